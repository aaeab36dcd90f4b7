// Receive breezesync's events: handle each once and miss none, even if consumers die.
//
// Copy this file and write your own `handle`. As it is, it prints each event as a line of JSON, and its counts at the end.
// You can run any number of these: Redis delivers each event to one consumer of the group.
//
//     npm install && REDIS_URL=redis://127.0.0.1:6379/0 node consumer.mjs

import { writeSync } from "node:fs";
import { hostname } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { createClient } from "redis";

// Node has SQLite built in since 22.13; a package replaces it in older versions. Use your own database instead.
const { DatabaseSync } = await import("node:sqlite").catch(() => import("@photostructure/sqlite"));

const env = process.env;
const streams = [env.EVENTS_STREAM ?? "breezesync:events", env.RECORDS_STREAM ?? "breezesync:records"];
const group = env.GROUP ?? "example-node";
const name = `${hostname()}-${process.pid}`;
// A consumer that has not acknowledged an entry after this time counts as dead; a batch must take less.
const claimAfter = Number(env.CLAIM_AFTER ?? 60) * 1000;
const month = 30 * 86_400_000;

const db = new DatabaseSync(env.MEMORY_FILE ?? "handled.db");
db.exec(`
  PRAGMA busy_timeout = 10000;
  PRAGMA journal_mode = WAL;
  -- The events that were handled, in the database that handling them changes: both commit together, or neither does.
  CREATE TABLE IF NOT EXISTS breezesync_handled
    (id TEXT PRIMARY KEY, stream TEXT NOT NULL, subject TEXT NOT NULL, sequence BIGINT NOT NULL, at BIGINT NOT NULL);
  CREATE INDEX IF NOT EXISTS breezesync_handled_order ON breezesync_handled (stream, subject, sequence)`);
const remember = db.prepare("INSERT INTO breezesync_handled VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING");
// A subject's sequence counts 1, 2, 3 … in each stream: a missing number is a missed event. Only numbers below one that
// arrived some time ago are checked, because until then another consumer, alive or dead, may have the event.
const findGaps = db.prepare(`
  WITH settled AS
    (SELECT stream, subject, max(sequence) AS top FROM breezesync_handled WHERE at <= ? GROUP BY stream, subject)
  SELECT stream, subject, top - min(sequence) + 1 - count(*) AS missing
  FROM breezesync_handled JOIN settled USING (stream, subject) WHERE sequence <= top
  GROUP BY stream, subject, top HAVING top - min(sequence) + 1 - count(*) > 0`);
// Delete the lowest numbers first, so that no gap appears, and never a subject's newest, which the next gap starts from.
const forget = db.prepare(`
  DELETE FROM breezesync_handled WHERE at < :old AND sequence < (SELECT min(later.sequence) FROM breezesync_handled later
    WHERE later.stream = breezesync_handled.stream AND later.subject = breezesync_handled.subject AND later.at >= :old)`);

const counts = { events: 0, repeats: 0, gaps: 0 };
let stopping = false;
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => (stopping = true));

// Make your own change here, through `db`. What a database cannot undo, like this line or an e-mail, may happen twice.
// console.log would buffer the line if the reader is slow, and a crash would lose an event that counts as handled.
function handle(event) {
  print(event);
}

const print = (line) => writeSync(1, `${JSON.stringify(line)}\n`);

// Create the group if it does not exist, starting at the oldest entry in the stream.
async function join() {
  for (const stream of streams) {
    await redis.xGroupCreate(stream, group, "0", { MKSTREAM: true }).catch((error) => {
      if (!error.message.startsWith("BUSYGROUP")) throw error;
    });
  }
  return true;
}

// Yield the entries of dead consumers, then new ones, waiting for them up to a second.
async function* read() {
  for (const stream of streams) {
    const { messages } = await redis.xAutoClaim(stream, group, name, claimAfter, "0-0", { COUNT: 100 });
    for (const message of messages) yield [stream, message];
  }
  const fresh = streams.map((key) => ({ key, id: ">" }));
  const found = await redis.xReadGroup(group, name, fresh, { COUNT: 100, BLOCK: 1000 });
  for (const { name: stream, messages } of found ?? []) for (const message of messages) yield [stream, message];
}

// Handle an event unless it is a repeat, then acknowledge its entry.
async function take(stream, { id: entry, message: fields }) {
  let isNew;
  try {
    const event = JSON.parse(fields.event);
    db.exec("BEGIN IMMEDIATE");
    isNew = remember.run(event.id, stream, event.subject, Number(event.sequence), Date.now()).changes === 1;
    if (isNew) handle(event);
    db.exec("COMMIT");
  } catch (error) {
    // The other entries go on. This one stays pending until this or another consumer claims it again.
    console.error(`entry ${entry} of ${stream} could not be handled:`, error);
    if (db.isTransaction) db.exec("ROLLBACK");
    return;
  }
  counts[isNew ? "events" : "repeats"] += 1;
  await redis.xAck(stream, group, entry);
}

// Missed events; `breezesync events replay` publishes them again.
const gaps = () => findGaps.all(Date.now() - 2 * claimAfter);

function lookBack() {
  for (const gap of gaps()) console.error(`missed ${gap.stream} of ${gap.subject}: ${gap.missing}, run breezesync events replay`);
  forget.run({ old: Date.now() - month });
}

// Leave the group, unless entries are still pending for this name: they would be lost.
async function leave() {
  for (const stream of streams) {
    const pending = await redis.xPendingRange(stream, group, "-", "+", 1, { consumer: name });
    if (pending.length === 0) await redis.xGroupDelConsumer(stream, group, name);
  }
}

// Without the queue, a command fails at once if Redis is down. The client reconnects by itself.
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
    // Redis is down, or was emptied and the group with it. Entries that are not acknowledged come again.
    console.error("trying again in a second:", error.message);
    joined = false;
    await sleep(1000);
  }
}
await leave().catch(() => {});
counts.gaps = gaps().reduce((sum, gap) => sum + Number(gap.missing), 0);
print(counts);
redis.destroy();
