// Hears what breezesync tells: every event handled once, none overlooked, whoever dies in between.
//
// Copy this file and write your own `handle`. By itself it prints each event as a line of JSON, and in the end what it
// counted. Any number of these may run: Redis deals each event out to one consumer of the group.
//
//     npm install && REDIS_URL=redis://127.0.0.1:6379/0 node consumer.mjs

import { writeSync } from "node:fs";
import { hostname } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { createClient } from "redis";

// Node has SQLite built in from 22.13 on; before, a package stands in for it. Use your own database instead.
const { DatabaseSync } = await import("node:sqlite").catch(() => import("@photostructure/sqlite"));

const env = process.env;
const streams = [env.EVENTS_STREAM ?? "breezesync:events", env.RECORDS_STREAM ?? "breezesync:records"];
const group = env.GROUP ?? "example-node";
const name = `${hostname()}-${process.pid}`;
// A consumer that leaves an entry unacknowledged for so long counts as dead: more than a batch ever takes.
const claimAfter = Number(env.CLAIM_AFTER ?? 60) * 1000;
const month = 30 * 86_400_000;

const db = new DatabaseSync(env.MEMORY_FILE ?? "heard.db");
db.exec(`
  PRAGMA busy_timeout = 10000;
  PRAGMA journal_mode = WAL;
  -- Which events were handled. It stands in the database that handling them changes: both commit together, or neither.
  CREATE TABLE IF NOT EXISTS breezesync_heard
    (id TEXT PRIMARY KEY, stream TEXT NOT NULL, subject TEXT NOT NULL, sequence BIGINT NOT NULL, at BIGINT NOT NULL);
  CREATE INDEX IF NOT EXISTS breezesync_heard_order ON breezesync_heard (stream, subject, sequence)`);
const remember = db.prepare("INSERT INTO breezesync_heard VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING");
// A subject's sequence counts 1, 2, 3 … in each stream: a number that is missing is an event that was missed. It is
// looked for below what was heard a while ago only, for until then another consumer may hold it, or a dead one.
const findGaps = db.prepare(`
  WITH settled AS
    (SELECT stream, subject, max(sequence) AS top FROM breezesync_heard WHERE at <= ? GROUP BY stream, subject)
  SELECT stream, subject, top - min(sequence) + 1 - count(*) AS missing
  FROM breezesync_heard JOIN settled USING (stream, subject) WHERE sequence <= top
  GROUP BY stream, subject, top HAVING top - min(sequence) + 1 - count(*) > 0`);
// From below, so that forgetting makes no gap; and never a subject's newest, from which the next gap is measured.
const forget = db.prepare(`
  DELETE FROM breezesync_heard WHERE at < :old AND sequence < (SELECT min(later.sequence) FROM breezesync_heard later
    WHERE later.stream = breezesync_heard.stream AND later.subject = breezesync_heard.subject AND later.at >= :old)`);

const counts = { events: 0, repeats: 0, gaps: 0 };
let stopping = false;
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => (stopping = true));

// Your change goes here, through `db`. What no database undoes, like this line or an e-mail, may happen twice.
// console.log would hold it back in memory while the reader is slow, and a crash would lose what counts as handled.
function handle(event) {
  print(event);
}

const print = (line) => writeSync(1, `${JSON.stringify(line)}\n`);

// Makes the group where there is none, to begin with the oldest entry that the stream still has.
async function join() {
  for (const stream of streams) {
    await redis.xGroupCreate(stream, group, "0", { MKSTREAM: true }).catch((error) => {
      if (!error.message.startsWith("BUSYGROUP")) throw error;
    });
  }
  return true;
}

// First what dead consumers held, then what is new, for which it waits a second.
async function* read() {
  for (const stream of streams) {
    const { messages } = await redis.xAutoClaim(stream, group, name, claimAfter, "0-0", { COUNT: 100 });
    for (const message of messages) yield [stream, message];
  }
  const fresh = streams.map((key) => ({ key, id: ">" }));
  const found = await redis.xReadGroup(group, name, fresh, { COUNT: 100, BLOCK: 1000 });
  for (const { name: stream, messages } of found ?? []) for (const message of messages) yield [stream, message];
}

// Handles an event unless that was done before; only then is its entry acknowledged.
async function take(stream, { id: entry, message: fields }) {
  let isNew;
  try {
    const event = JSON.parse(fields.event);
    db.exec("BEGIN IMMEDIATE");
    isNew = remember.run(event.id, stream, event.subject, Number(event.sequence), Date.now()).changes === 1;
    if (isNew) handle(event);
    db.exec("COMMIT");
  } catch (error) {
    // The others go on. This one stays with us and is claimed again, by us or by another consumer.
    console.error(`entry ${entry} of ${stream} could not be handled:`, error);
    if (db.isTransaction) db.exec("ROLLBACK");
    return;
  }
  counts[isNew ? "events" : "repeats"] += 1;
  await redis.xAck(stream, group, entry);
}

// What was missed for good: `breezesync events replay` brings it again.
const gaps = () => findGaps.all(Date.now() - 2 * claimAfter);

function lookBack() {
  for (const gap of gaps()) console.error(`missed ${gap.stream} of ${gap.subject}: ${gap.missing}, ask for a replay`);
  forget.run({ old: Date.now() - month });
}

// Off the group's list, unless something is still pending here: it would be lost with the name.
async function leave() {
  for (const stream of streams) {
    const pending = await redis.xPendingRange(stream, group, "-", "+", 1, { consumer: name });
    if (pending.length === 0) await redis.xGroupDelConsumer(stream, group, name);
  }
}

// Without the queue, a command fails while Redis is away instead of waiting for it; the client connects again itself.
const redis = createClient({ url: env.REDIS_URL ?? "redis://127.0.0.1:6379/0", disableOfflineQueue: true });
redis.on("error", (error) => console.error("Redis:", error.message || error.code));
redis.connect().catch(() => {});

let joined = false;
let looked = Date.now();
while (!stopping) {
  if (!redis.isReady) {
    joined = false;
    await sleep(100);
    continue;
  }
  try {
    joined ||= await join();
    for await (const [stream, message] of read()) await take(stream, message);
    if (Date.now() - looked > claimAfter) {
      looked = Date.now();
      lookBack();
    }
  } catch (error) {
    // Redis is away, or was emptied, and the group with it. What was not acknowledged comes again.
    console.error("on again in a second:", error.message);
    joined = false;
    await sleep(1000);
  }
}
await leave().catch(() => {});
counts.gaps = gaps().reduce((sum, gap) => sum + Number(gap.missing), 0);
print(counts);
redis.destroy();
