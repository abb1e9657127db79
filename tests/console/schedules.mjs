// Weather windows: a schedule written in a form, analysed, its tasks started and completed.
import assert from "node:assert/strict";

export async function schedules(browser) {
  const { page } = browser;
  await browser.go("/schedules");
  await browser.sees("You have no schedules yet.");
  await page.getByRole("link", { name: "New schedule" }).click();
  await page.getByLabel("Name", { exact: true }).first().fill("Lift <b>a</b> pile");
  await page.getByLabel("Latitude").fill("61.5");
  await page.getByLabel("Longitude").fill("4.8");
  const first = page.getByRole("group", { name: "Task 1", exact: true });
  await first.getByLabel("Id").fill("sail");
  await first.getByLabel("Name").fill("Sail out");
  await first.getByLabel("Takes").fill("soon");
  await first.getByRole("button", { name: "Add a limit" }).click();
  await first.getByLabel("At most").fill("0");
  browser.expected = [422];
  await page.getByRole("button", { name: "Write the schedule" }).click();
  await page.getByRole("alert").waitFor();
  assert.equal(await first.getByLabel("Takes").getAttribute("aria-invalid"), "true");
  assert.equal(await first.getByLabel("At most").getAttribute("aria-invalid"), "true");
  await browser.holds("a schedule with faults");
  browser.expected = [];
  await first.getByLabel("Takes").fill("2 h");
  await first.getByLabel("At most").fill("2.5");
  await page.getByRole("button", { name: "Add a task" }).click();
  const second = page.getByRole("group", { name: "Task 2", exact: true });
  assert.equal(await second.getByLabel("Predecessors").inputValue(), "sail");
  await second.getByLabel("Id").fill("lift");
  await second.getByLabel("Name").fill("Lift");
  await second.getByLabel("Takes").fill("1 h 30 min");
  await page.getByRole("button", { name: "Write the schedule" }).click();
  await page.getByRole("heading", { level: 1, name: "Lift <b>a</b> pile" }).waitFor();
  await browser.sees("This schedule was never analysed.");

  await page.getByRole("button", { name: "Analyse now" }).click();
  await browser.sees(/All tasks can be done by|The forecast has no window/);
  const chart = page.getByRole("img", { name: /^Chart of the forecast/ });
  await chart.waitFor();
  assert.equal(await chart.evaluate((image) => image.complete && image.naturalWidth > 300), true);
  await page.getByRole("region", { name: "Plan" }).getByRole("rowheader", { name: "Sail out" }).waitFor();
  await page.getByText("Decision note").click();
  await browser.sees(/# .*Lift/);
  await browser.holds("an analysis");

  const tasks = page.getByRole("region", { name: "Tasks" });
  await tasks.getByRole("button", { name: "Start Sail out" }).click();
  await tasks.getByText(/under way since/).waitFor();
  await tasks.getByRole("button", { name: "Complete Sail out" }).click();
  await tasks.getByText(/^completed/).waitFor();
  // A task that was completed cannot be left out.
  await page.getByRole("link", { name: "Change" }).click();
  await page.getByRole("button", { name: "Remove task 1" }).click();
  await page.getByRole("group", { name: "Task 1", exact: true }).getByLabel("Predecessors").fill("");
  browser.expected = [409];
  await page.getByRole("button", { name: "Write the change" }).click();
  await page.getByRole("alert").waitFor();
  browser.expected = [];
  await browser.go("/schedules");
  await page.getByRole("link", { name: "Lift <b>a</b> pile" }).waitFor();
  await browser.sees("2 tasks (1 completed)");
  await browser.holds("schedules");
}
