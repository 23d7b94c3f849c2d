"""Studies of the policy: other scalers beside it, a synthetic day to replay, and mutants of its code."""
