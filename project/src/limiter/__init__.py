"""rps-limiter in five minutes.

main      -> app.serve: HTTP first, then the database, the scheduler, the broker
wiring    -> every object is made once, by dishka
runner    -> a tick asks Postgres: is the job due? is its lock free? then claims a run with a new epoch
jobs      -> gather (clients, db), decide (domain), act (effects): one file per job
effects   -> what jobs do: db first, then clients, and a record of each changed decision
domain    -> pure functions over values: folding.fold, deciding.decide_fleet, snapshot.take_snapshot, idleness.judge
db        -> intent before each command, events in the transaction of the change they announce, every write fenced
clients   -> wire in, domain out; each failure sorted by what the caller does about it
recording -> one line per run: what the jobs read and decided
replay    -> the same functions over a recording, under any settings
api       -> health and metrics, commands by hand, the announcements from which users' addresses are learned
ctl       -> the command line that sends commands by hand
"""

VERSION = "1.5.3"  # the same as in pyproject.toml
