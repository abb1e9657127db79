// Whether it is well, the events live, and whose token is taken.
import assert from "node:assert/strict";

export async function operations(browser) {
  const { page } = browser;
  await browser.go("/operations");
  const providers = page.getByRole("region", { name: "Providers" });
  await page.getByRole("region", { name: "Projections" }).getByRole("link", { name: "plans" }).waitFor();
  const row = providers.getByRole("row").filter({ hasText: "fever" });
  await row.waitFor();
  assert.match(await row.innerText(), /closed/);
  await browser.sees(/All is well\.|attention\./);
  await row.getByRole("button", { name: "Fetch now fever" }).click();
  await row.getByText("asked for a fetch").waitFor();
  await browser.holds("operations");

  // From the beginning, by type and key, then live.
  await page.getByRole("link", { name: "plans.events" }).first().click();
  await page.getByLabel("Start").selectOption("beginning");
  await page.getByLabel("Type").fill("plan.listed");
  await browser.sees("135 events, newest first.");
  await page.locator(".events summary").first().click();
  await browser.sees(/"type": "plan.listed"/);
  await browser.holds("events");
  await page.getByLabel("Topic").selectOption("recipes.events");
  await browser.go("/operations/events/recipes.events");
  await page.getByRole("status").getByText("live").waitFor();
  const id = await page.evaluate(async () => {
    const created = await fetch("/v1/recipes", {
      method: "POST",
      body: JSON.stringify({ name: "Live", ingredients: [{ ingredient: "Salt", quantity: null }], steps: [{ text: "Wait." }] }),
    });
    return (await created.json()).id;
  });
  await page.locator(".events").getByText("recipe.created").waitFor();
  await browser.sees("1 event, newest first.");

  // What became of it, and who reads.
  await browser.go("/operations/trace");
  await page.getByLabel("Id").fill(id);
  await page.getByRole("button", { name: "Follow" }).click();
  const way = page.getByRole("list", { name: "What became of it" });
  await way.getByText("recipe.created").first().waitFor();
  await way.getByText("answered 201").waitFor();
  await browser.holds("the way of a write");
  await browser.go("/operations/groups");
  const groups = page.getByRole("region", { name: "Consumer groups" });
  await groups.getByText("recipes.events").first().waitFor();
  await browser.holds("consumer groups");
  browser.expected = [404];
  await browser.go("/operations/events/commands");
  await page.getByRole("alert").waitFor();
}

/** At an identity provider and back, as who it says; an answer that nobody asked for counts for nothing. */
export async function provider(browser, issuer) {
  const { page } = browser;
  browser.others = [issuer];
  await browser.go("/schedules");
  const leave = async () => {
    await page.getByRole("button", { name: "Sign in", exact: true }).click();
    const dialog = page.getByRole("dialog", { name: "Sign in" });
    const elsewhere = dialog.getByRole("button", { name: `Sign in at ${new URL(issuer).host}` });
    await elsewhere.waitFor();
    return elsewhere;
  };
  const elsewhere = await leave();
  await browser.holds("sign in at a provider");
  await elsewhere.click();
  await page.getByText("as mary").waitFor();
  await browser.sees("You have no schedules yet.");
  assert.equal(page.url(), `${browser.base}/#/schedules`, "the code is gone, and the view is the one before");
  assert.deepEqual(await page.evaluate(() => Object.keys(sessionStorage)), ["almanac.token"]);
  assert.equal(await page.evaluate(() => localStorage.length + document.cookie.length), 0);
  await page.getByRole("button", { name: "Sign out" }).click();

  const failed = page.getByRole("alert").filter({ hasText: "Signing in failed." });
  await page.goto(`${browser.base}/?code=once&state=forged#/schedules`);
  await failed.getByText("no answer to a sign-in that began in this tab").waitFor();
  await fetch(`${issuer}/mistaken`, { method: "POST" });
  await page.goto(`${browser.base}/#/plans`);
  await page.reload();
  await (await leave()).click();
  await failed.getByText("The identity token is of another sign-in.").waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  await browser.holds("a sign-in that failed");
}

/** A token is sent once pasted, refused ones are told, and it is gone with the tab. */
export async function identity(browser) {
  const { page } = browser;
  await browser.go("/schedules");
  await page.getByRole("heading", { level: 1 }).waitFor();
  await page.getByRole("button", { name: "Sign in" }).click();
  const dialog = page.getByRole("dialog", { name: "Sign in" });
  const claims = Buffer.from(JSON.stringify({ sub: "mary" })).toString("base64url");
  await dialog.getByLabel("Bearer token").fill(`e30.${claims}.c2lnbmVk`);
  await browser.holds("sign in");
  browser.expected = [401];
  await dialog.getByRole("button", { name: "Sign in" }).click();
  await page.getByText("as mary").waitFor();
  // What is shown is asked for again as mary, whom the server does not know.
  await page.getByRole("alert").waitFor();
  assert.equal(await page.evaluate(() => localStorage.length + document.cookie.length), 0);
  await page.getByRole("button", { name: "Sign out" }).click();
  await browser.until("the local user's view", async () => (await page.getByRole("alert").count()) === 0);
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
}
