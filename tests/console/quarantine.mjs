// What was set aside of a provider's bodies.
import assert from "node:assert/strict";

export async function quarantine(browser) {
  const { page } = browser;
  await browser.go("/operations/providers/fever");
  await page.getByText("1 fault").click();
  await browser.sees("plan x/x");
  await browser.holds("a provider with a fault");
  await page.getByRole("link", { name: "What was set aside, and since when" }).click();
  const faults = page.getByRole("list", { name: "What was set aside" });
  const fault = faults.getByRole("listitem");
  await fault.getByText("plan x/x").waitFor();
  assert.equal(await fault.count(), 1, "the same fault of the same plan is one");
  assert.match(await fault.innerText(), /2031-02-30/);
  await fault.getByText("As it was sent").click();
  await browser.sees(/plan_start_date/);
  assert.equal(await page.locator("main b").count(), 0, "what a feed says is text");
  assert.equal(await page.getByLabel("Provider").inputValue(), "fever");
  await browser.holds("quarantine");
  await page.getByLabel("Plan or reason").fill("another plan");
  await browser.sees("Nothing that was set aside matches.");
  await browser.holds("an empty quarantine");
}
