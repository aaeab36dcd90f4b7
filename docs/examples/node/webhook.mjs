// An endpoint for webhooks: verifies each event, and answers before it works on it.
//
// SECRET=whsec_… node webhook.mjs 8000

import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

const webhook = new Webhook(process.env.SECRET);
const seen = new Set(); // your database: an event may come more than once, always with the same id

createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks).toString("utf8"); // as it came: parsed JSON has another signature
  let event;
  try {
    event = webhook.verify(body, request.headers);
  } catch {
    response.writeHead(400).end();
    return;
  }
  if (!seen.has(event.id)) {
    seen.add(event.id);
    console.log(event.type, event.subject, event.sequence);
  }
  response.writeHead(204).end();
}).listen(Number(process.argv[2]), "127.0.0.1");
