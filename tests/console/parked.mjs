// Keys that a projection has set aside: why, the event, and what can be done.
import assert from "node:assert/strict";

export async function parked(browser) {
  const { page } = browser;
  await browser.go("/operations");
  await browser.sees("2 keys of the projection recipes are parked.");
  await page.getByRole("link", { name: "Parked keys" }).click();
  const keys = page.getByRole("list", { name: "Parked keys" });
  await keys.getByRole("link", { name: "<b>nobody</b>" }).waitFor();
  assert.equal(await keys.getByRole("listitem").count(), 2);
  assert.equal(await page.locator("main b").count(), 0, "what somebody wrote is text");
  await browser.holds("parked keys");
  await keys.getByRole("link", { name: "<b>nobody</b>" }).click();
  await page.getByRole("heading", { level: 2, name: "The event" }).waitFor();
  await browser.sees(/"raw": "6e6f206576656e74"/);
  await browser.holds("a parked key");

  // Nothing was mended, so it stays; then it is passed over.
  await act(page, "Redrive <b>nobody</b>", "Redrive", "a try");
  await browser.sees("0 of 1 key redriven.");
  await browser.holds("a redrive that failed");
  browser.expected = [404];
  await act(page, "Discard <b>nobody</b>", "Discard", "it is nothing");
  await browser.sees("1 of 1 key discarded.");
  await browser.sees("This key is not parked any more.");
  browser.expected = [];
  await browser.go("/operations/parked?key=somebody");
  await browser.sees("No parked key matches.");
  await browser.go("/operations/parked");
  await act(page, "Discard all 1 key", "Discard", "and all others");
  await browser.sees("No key is parked: every event could be folded.");
}

async function act(page, name, label, reason) {
  await page.getByRole("button", { name }).click();
  const dialog = page.getByRole("dialog", { name });
  await dialog.getByLabel("Reason").fill(reason);
  await dialog.getByRole("button", { name: label, exact: true }).click();
  await dialog.waitFor({ state: "hidden" });
}
