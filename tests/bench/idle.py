"""The floor of an idle process: one question to Redis and one to PostgreSQL each second, and nothing else.

`python -m tests.bench.idle` asks until it is ended.
"""

import os
import time

import psycopg
import redis


def main() -> None:
    url = os.environ["DATABASE_URL"].replace("+psycopg", "")
    with psycopg.connect(url, autocommit=True) as database, redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        while True:
            client.ping()
            database.execute("SELECT 1").fetchone()
            time.sleep(1)


if __name__ == "__main__":
    main()
