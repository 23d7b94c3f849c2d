"""Environment -> typed, validated settings -> rule values."""
