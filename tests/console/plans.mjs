// Plans: by day, filtered by the address, hostile titles as text.
import assert from "node:assert/strict";

/** The feed's plans lie in May 2031; this is a Wednesday. */
const NOW = new Date("2031-05-14T10:00:00Z");

export async function plans(browser) {
  const { page } = browser;
  await browser.context.clock.setFixedTime(NOW);
  await browser.go("");
  assert.equal(await page.title(), "Plans · Almanac");
  const evening = page.getByRole("region", { name: "Wednesday, 14 May 2031" });
  await evening.getByRole("link", { name: "Concert of today" }).waitFor();
  const row = await evening.getByRole("listitem").filter({ hasText: "Concert of today" }).textContent();
  assert.match(row, /20:00 – 22:00/, "the provider's own time");
  assert.match(row, /20\.00 – .?35\.00/);
  assert.match(row, /on sale/);
  assert.match(row, /as of \d+ days ago/, "the age of what is known is told once it is stale");
  assert.equal(await page.getByRole("link", { name: "Concert of yesterday" }).count(), 0);

  // What a feed wrote is text.
  const hostile = page.getByRole("link", { name: "<img src=x onerror=alert(1)><script>alert(2)</script>" });
  assert.equal(await hostile.count(), 1);
  assert.equal(await page.locator("main img, main script").count(), 0);
  await browser.holds("plans by day");

  // Calendars and feed readers are given the same plans.
  const elsewhere = page.getByRole("navigation", { name: "Subscribe to these plans" });
  const feed = await elsewhere.getByRole("link", { name: "RSS" }).getAttribute("href");
  assert.match(await elsewhere.getByRole("link", { name: "subscribe in a calendar" }).getAttribute("href"), /^webcal:/);
  const items = await page.evaluate(async (path) => (await (await fetch(path)).text()).match(/<title>Sold out show</g).length, feed);
  assert.equal(items, 1);

  // A filter is in the address, and the address is the view.
  await page.getByLabel("Words of the title").fill("weekend");
  await browser.until("filtered list", async () => page.url().includes("q=weekend"));
  await browser.until("answer", async () => (await page.getByRole("link", { name: "Concert of today" }).count()) === 0);
  await page.getByRole("link", { name: "Concert of the weekend" }).waitFor();
  const shared = page.url();
  await page.goto("about:blank");
  await page.goto(shared);
  await page.getByRole("link", { name: "Concert of the weekend" }).waitFor();
  assert.equal(await page.getByLabel("Words of the title").inputValue(), "weekend");
  await browser.go("/plans?when=weekend");
  await page.getByRole("region", { name: "Saturday, 17 May 2031" }).waitFor();
  assert.equal(await page.getByRole("region", { name: /May 2031/ }).count(), 1);
  await browser.go("/plans?sale=sold_out");
  const soldOut = page.getByRole("listitem").filter({ hasText: "Sold out show" });
  await soldOut.getByText("sold out", { exact: true }).waitFor();
  await browser.go("/plans?min_price=30&max_price=40");
  await page.getByRole("link", { name: "Concert of today" }).waitFor();
  await browser.go("/plans?q=nothing+of+the+kind");
  await browser.sees("No plan of these dates matches the filters.");
  await browser.holds("no plans");

  for (const view of ["week", "month"]) {
    await browser.go(`/plans?view=${view}`);
    await page.getByRole("link", { name: "Concert of today" }).waitFor();
    await browser.holds(`plans by ${view}`);
  }
  await page.getByRole("link", { name: "Later" }).click();
  await page.getByRole("heading", { name: "June 2031" }).waitFor();

  // A page of a long list goes on behind its cursor.
  await browser.go("/plans");
  await page.getByRole("button", { name: "Show more" }).click();
  await page.getByRole("link", { name: "Series 129", exact: true }).waitFor();
  assert.equal(await page.getByRole("link", { name: /^Series / }).count(), 130);
  // A browser works for the rows that are near what is seen alone.
  const rendered = page.locator(".plans").evaluateAll(
    (lists) => lists.filter((list) => list.firstElementChild.checkVisibility({ contentVisibilityAuto: true })).length,
  );
  assert.ok((await rendered) < (await page.locator(".plans").count()), "no part is left out");

  await page.getByRole("link", { name: "Concert of today" }).click();
  await page.getByRole("heading", { level: 1, name: "Concert of today" }).waitFor();
  // A moment after it is shown.
  await page.waitForFunction(() => document.activeElement?.id !== "main");
  assert.equal(await page.evaluate(() => document.activeElement?.tagName), "H1", "the focus follows");
  await browser.sees("Platea");
  await page.getByText("History").click();
  await browser.sees("plan.listed");
  await browser.holds("a plan");

  // Another method of failing than finding nothing.
  browser.expected = [400, 404];
  await browser.go("/plans?min_price=cheap");
  await page.getByRole("alert").waitFor();
  await browser.go("/plans/00000000-0000-0000-0000-000000000000");
  await page.getByRole("alert").getByText("there is no plan with this id").waitFor();
  await browser.holds("a plan that is not there");
}

/** What leads the keyboard: the first stop skips to the content. */
export async function keyboard(browser) {
  const { page } = browser;
  await browser.go("/plans");
  await page.getByRole("heading", { level: 1 }).waitFor();
  await page.evaluate(() => document.activeElement?.blur());
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement?.id), "main");
}
