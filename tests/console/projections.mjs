// Projections and their rebuilds, live and by buttons; what that leaves in the audit; one thing through its
// history.
import assert from "node:assert/strict";

export async function projections(browser) {
  const { page } = browser;
  await browser.go("/operations/projections");
  const plans = page.getByRole("region", { name: "Projections" }).getByRole("row").filter({ hasText: "plans" });
  await plans.getByText("0 events").waitFor();
  await browser.holds("projections");
  await plans.getByRole("link", { name: "plans" }).click();
  await browser.sees("It was never rebuilt.");
  await browser.sees("All that the log has is in them.");
  await page.getByText(/^\d+ partitions$/).click();
  await page.getByRole("rowheader", { name: "plans.events / 3" }).waitFor();
  await browser.holds("a projection");

  // As slow as can be, so that it is under way for as long as this looks at it.
  await start(page, "<b>slow</b>", "1");
  await browser.sees("Hydrating.");
  await page.getByRole("progressbar", { name: "Share of the log that is read" }).waitFor();
  const rebuild = page.url();
  await act(page, "Pause", "a look");
  await browser.sees("Paused.");
  await browser.holds("a rebuild");
  await page.getByRole("link", { name: "plans", exact: true }).click();
  await page.getByRole("listitem").getByText("<b>slow</b>").waitFor();
  assert.equal(await page.locator("main b").count(), 0, "what an operator wrote is text");
  // One at a time: the refusal is told where it was asked.
  browser.expected = [409];
  await start(page, "another", "0");
  const dialog = page.getByRole("dialog", { name: "Rebuild plans" });
  await dialog.getByRole("alert").waitFor();
  await browser.holds("a refused rebuild");
  await dialog.getByRole("button", { name: "Leave it" }).click();
  browser.expected = [];
  await page.goto(rebuild);
  await act(page, "Resume", "go on");
  await browser.sees("Hydrating.");
  await act(page, "Cancel", "too slow");
  await browser.sees("Cancelled.");

  await browser.go("/operations/projections/plans");
  await start(page, "as fast as it goes", "0");
  await browser.sees("No row differs from the live tables.");
  await browser.holds("a ready rebuild");
  await act(page, "Activate", "it is the same");
  await browser.sees("Active.");
  await act(page, "Roll back", "it was only a try");
  await browser.sees("Rolled back.");
  await act(page, "Drop", "it is over");
  await browser.sees("(dropped)");
  assert.equal(await page.getByRole("button", { name: /the rebuild of plans$/ }).count(), 0);

  await browser.go("/operations/audit");
  const audit = page.getByRole("list", { name: "What operators did" });
  await audit.getByText("it was only a try").waitFor();
  await audit.getByText("<b>slow</b>").waitFor();
  for (const words of [
    "Rebuild of plans was requested",
    "Rebuild of plans was paused while it was hydrating",
    "Rebuild of plans was resumed: paused → hydrating",
    "Rebuild of plans: verifying → ready",
    "Reads of plans were switched to the rebuilt tables",
  ]) {
    await audit.getByText(words).first().waitFor();
  }
  // What it is called elsewhere stands below.
  await audit.getByText("generation.rolled_back").waitFor();
  assert.equal(await audit.locator("strong").getByText(/\w\.\w/).count(), 0);
  await browser.holds("the audit");
  await everyDeed(browser);

  await browser.go("/operations/topics");
  const topics = page.getByRole("region", { name: "Topics" });
  await topics.getByRole("row").filter({ hasText: "ingest.state" }).getByText("the newest of each key").waitFor();
  await browser.holds("topics");
  await topics.getByRole("link", { name: "operations.events" }).click();
  await page.getByRole("heading", { level: 1, name: "operations.events" }).waitFor();

  await browser.go("/operations/providers/fever");
  await browser.sees("closed");
  await browser.holds("a provider");
}

/** All that operators and projectors can be told to have done, by the types of their events; and what only
 *  a newer server can tell. */
async function everyDeed(browser) {
  const { page } = browser;
  const types = await page.evaluate(async () => {
    const { channels } = await (await fetch("/asyncapi.json")).json();
    const type = (record) => record.replace(/(?<!^)[A-Z]/, ".$&").replace(/(?<=[a-z])[A-Z]/g, "_$&").toLowerCase();
    return Object.keys(channels.operations_events.messages).map(type);
  });
  assert.ok(types.includes("generation.rolled_back") && types.includes("import.started"), String(types));
  const target = (type) =>
    ({ provider: "providers/fever", import: "import/1", redrive: "2 parked keys", discard: "recipes/<b>key</b>" })[type.split(".")[0]] ?? "plans/1";
  const items = [...types, "moon.landed"].map((type) => ({
    time: "2026-11-29T12:00:00.000Z", actor: "mary", action: type, type, target: target(type),
    reason: "", before: null, outcome: type.endsWith("reported") ? "1 succeeded, 1 failed" : "ready",
  }));
  await page.route("**/v1/admin/audit?*", (route) => route.fulfill({ json: { items, next_cursor: null } }));
  await browser.go("/operations/projections");
  await browser.go("/operations/audit");
  const audit = page.getByRole("list", { name: "What operators did" });
  await audit.getByText("Redrive of 2 parked keys: 1 succeeded, 1 failed").waitFor();
  await audit.getByText("Discard of the parked key <b>key</b> of recipes was requested").waitFor();
  await audit.getByText("Import of an export was completed").waitFor();
  const raw = await audit.locator("strong").getByText(/\w\.\w/).allInnerTexts();
  assert.deepEqual(raw, ["moon.landed"], "a type has no words in console/src/operations/deeds.tsx");
  await browser.holds("all that the audit can tell");
  await page.unroute("**/v1/admin/audit?*");
}

async function start(page, reason, pace) {
  await page.getByRole("button", { name: "Rebuild plans" }).click();
  const dialog = page.getByRole("dialog", { name: "Rebuild plans" });
  await dialog.getByLabel("Events a second").fill(pace);
  await dialog.getByLabel("Reason").fill(reason);
  await dialog.getByRole("button", { name: "Rebuild" }).click();
}

async function act(page, label, reason) {
  await page.getByRole("button", { name: `${label} the rebuild of plans` }).click();
  const dialog = page.getByRole("dialog", { name: `${label} the rebuild of plans` });
  await dialog.getByLabel("Reason").fill(reason);
  await dialog.getByRole("button", { name: label, exact: true }).click();
  await dialog.waitFor({ state: "hidden" });
}

/** A recipe that was written twice, before and after. */
export async function history(browser) {
  const { page } = browser;
  await browser.go("/operations/history");
  await browser.holds("no history");
  const id = await page.evaluate(async () => {
    const recipe = { name: "Soup", ingredients: [{ ingredient: "Leek", quantity: null }], steps: [{ text: "Boil." }] };
    const write = (path, method, body) => fetch(path, { method, body: JSON.stringify(body) }).then((answer) => answer.json());
    const { id } = await write("/v1/recipes", "POST", recipe);
    await write(`/v1/recipes/${id}`, "PATCH", { name: "<i>Leek soup</i>", tags: ["winter"] });
    return id;
  });
  await page.getByLabel("Topic").selectOption("recipes.events");
  await page.getByLabel("Id").fill(id);
  await page.getByRole("button", { name: "Show", exact: true }).click();
  const slider = page.getByRole("slider", { name: "Event 2 of 2" });
  await slider.waitFor();
  const name = page.getByRole("row").filter({ has: page.getByRole("rowheader", { name: "recipe.name" }) });
  assert.equal(await name.locator("del").innerText(), "Soup");
  assert.equal(await name.locator("ins").innerText(), "<i>Leek soup</i>");
  await browser.holds("a history");
  await slider.press("ArrowLeft");
  await page.getByRole("slider", { name: "Event 1 of 2" }).waitFor();
  assert.match(page.url(), /at=1/);
  await page.getByRole("heading", { name: /^recipe.created/ }).waitFor();
  await page.getByRole("button", { name: "Later" }).click();
  await page.getByRole("heading", { name: /^recipe.revised/ }).waitFor();
  const steps = page.getByRole("rowheader", { name: /steps.0.text/ });
  assert.equal(await steps.count(), 0, "what was not changed is not shown");
  await page.getByRole("combobox", { name: "Show" }).selectOption("All that was known");
  await steps.waitFor();
  await browser.go("/operations/history/recipes.events/00000000-0000-0000-0000-000000000000");
  await browser.sees("The topic has no event with this key.");
}
