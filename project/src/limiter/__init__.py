"""rps-limiter in five minutes.

main     -> app.serve: HTTP first, then the database, the timetable, the broker
app      -> wiring: every object is made once, by dishka
schedule -> a tick asks Postgres: is the job due? is its lock free? then claims a run with a new epoch
jobs     -> gather (clients, db), decide (domain), act (db first, then clients)
domain   -> pure functions: folding.fold, deciding.decide_fleet, survey.survey; each change is an audit.Finding
db       -> intent before each command, events in the transaction of the change they tell of, every write fenced
clients  -> wire in, domain out; each failure sorted by what the caller does about it
replay   -> the same functions over a recording of what the jobs saw, under any settings
control  -> commands by hand, and the announcements from which users' addresses are learned
"""
