// Drives the page of three installations: one with the feed of the tests, a demonstration, which has
// forecasts, and one where people sign in at an identity provider. The exit status says how it went.
import { Console } from "./harness.mjs";
import { identity, operations, provider } from "./operations.mjs";
import { parked } from "./parked.mjs";
import { keyboard, plans } from "./plans.mjs";
import { history, projections } from "./projections.mjs";
import { quarantine } from "./quarantine.mjs";
import { recipes } from "./recipes.mjs";
import { schedules } from "./schedules.mjs";

const [base, demonstration, secured, issuer] = process.argv.slice(2);
const browser = await Console.open(base);
try {
  for (const part of [plans, keyboard, recipes, schedules, operations, parked, quarantine, projections, history, identity, provider]) {
    const began = Date.now();
    browser.base = { schedules: demonstration, provider: secured }[part.name] ?? base;
    await browser.fresh();
    await part(browser, issuer);
    browser.quiet();
    console.log(`${part.name}: ok, ${Date.now() - began} ms`);
  }
} catch (error) {
  console.error(`at ${browser.page.url()}:`, error);
  console.error("faults:", browser.faults);
  process.exitCode = 1;
} finally {
  await browser.close();
}
