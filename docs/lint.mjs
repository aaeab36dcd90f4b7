// Holds a document to the AsyncAPI specification with AsyncAPI's own parser: node docs/lint.mjs docs/asyncapi.yaml
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const path = process.argv[2];
const { document, diagnostics } = await new Parser().parse(readFileSync(path, "utf8"));
const wrong = diagnostics.filter(({ severity }) => severity <= 1);
for (const { severity, path: where, message } of wrong) {
  console.error(`${severity === 0 ? "error" : "warning"} at ${where.join(".")}: ${message}`);
}
if (!document || wrong.length > 0) process.exit(1);
console.log(`${path}: ${document.channels().length} channels, ${document.messages().length} messages, nothing to complain about`);
