"""Private Postgres, pgbouncer and RabbitMQ, and replicas of the service, as processes that never outlive this one."""
