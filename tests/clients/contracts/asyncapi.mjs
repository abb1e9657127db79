// Holds an AsyncAPI document against AsyncAPI's own parser. Errors and warnings end it; hints of style do not.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const WARNING = 1;
// Servers and contacts are each installation's, and 3.0 is what the tools of others read.
const STYLE = ["asyncapi-id", "asyncapi-info-contact", "asyncapi-info-contact-properties", "asyncapi-info-license",
  "asyncapi-info-license-url", "asyncapi-servers", "asyncapi-latest-version", "asyncapi-3-tags"];
const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], "utf8"));
const faults = diagnostics.filter((one) => one.severity <= WARNING && !STYLE.includes(String(one.code)));
for (const fault of faults) console.error(`${fault.path.join("/")}: ${fault.message} (${fault.code})`);
if (!document || faults.length > 0) process.exit(1);
const webhooks = document.channels().get("webhooks");
const signed = webhooks.messages().all().every((one) => one.headers().properties()["webhook-signature"]);
if (webhooks.messages().length < 10 || !signed) throw new Error("webhooks are not described");
console.log(`${document.channels().length} channels, ${document.messages().length} messages`);
