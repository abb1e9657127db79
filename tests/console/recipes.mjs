// Recipes: written with faults at their fields, found, scaled, cooked, changed against somebody else,
// with a picture, deleted and restored.
import assert from "node:assert/strict";

const MARKUP = "<script>alert(1)</script><img src=x onerror=alert(2)>";

/** A PNG of one pixel. */
const PIXEL = Buffer.from(
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC",
  "base64",
);

export async function recipes(browser) {
  const { page } = browser;
  await browser.go("/recipes/new");
  await page.getByRole("group", { name: "Ingredient 1", exact: true }).getByLabel("Ingredient", { exact: true }).fill("LEEK");
  await page.getByLabel("Quantity").fill("a few");
  await page.getByRole("textbox", { name: "Step 1" }).fill("Cut them.");
  browser.expected = [422];
  await page.getByRole("button", { name: "Write the recipe" }).click();
  const faults = page.getByRole("alert");
  await faults.getByRole("button", { name: "name", exact: true }).waitFor();
  // Each fault stands at its field, and the list leads there.
  const name = page.getByLabel("Name", { exact: true });
  await faults.getByRole("button", { name: "name", exact: true }).click();
  assert.equal(await name.evaluate((field) => field === document.activeElement), true);
  assert.match(await describedBy(name), /required and must not be blank/);
  assert.notEqual(await describedBy(page.getByLabel("Quantity")), "");
  await browser.holds("a recipe with faults");
  browser.expected = [];

  await name.fill(`Leek soup ${MARKUP}`);
  await page.getByLabel("Description").fill(`For winter. ${MARKUP}`);
  await page.getByLabel("Quantity").fill("2.5");
  await page.getByLabel("Unit").selectOption("KG");
  await page.getByRole("button", { name: "Add an ingredient" }).click();
  const second = page.getByRole("group", { name: "Ingredient 2" });
  await second.getByLabel("Ingredient", { exact: true }).fill("Salt");
  await page.getByLabel("Serves").fill("2");
  await page.getByLabel("Cooking time").fill("1 h 30 min");
  await page.getByLabel("Tags").fill("winter, soup");
  await page.getByRole("button", { name: "Write the recipe" }).click();
  await page.getByRole("heading", { level: 1, name: `Leek soup ${MARKUP}` }).waitFor();
  await browser.sees("2.5 kg");
  await browser.sees("cooking 1 h 30 min");
  await browser.sees("to taste");
  assert.equal(await page.locator("main script, main img").count(), 0, "what a user wrote is text");
  await page.getByRole("button", { name: "More" }).click();
  await browser.sees("3.75 kg");
  assert.match(page.url(), /serves=3/);
  await browser.holds("a recipe");
  const recipe = page.url().replace(/\?.*/, "");

  await page.getByRole("link", { name: "Cook", exact: true }).click();
  await browser.sees("Step 1 of 1");
  await browser.sees("The screen stays on.");
  await browser.holds("cooking");
  await page.goto(recipe);

  // The list holds what was just written, and is asked while one types.
  await page.getByRole("navigation", { name: "Sections" }).getByRole("link", { name: "Recipes" }).click();
  await page.getByRole("link", { name: `Leek soup ${MARKUP}` }).waitFor();
  await page.getByLabel("Words of name and description").pressSequentially("pudding");
  await browser.sees(/No recipe matches/);
  await page.getByLabel("Words of name and description").fill("soup LEEK");
  await page.getByRole("link", { name: `Leek soup ${MARKUP}` }).waitFor();
  await browser.holds("recipes");

  await conflict(browser, recipe);
  await picture(browser, recipe);

  await page.getByText("Delete", { exact: true }).click();
  await page.getByRole("button", { name: "Delete this recipe" }).click();
  browser.expected = [410];
  await browser.sees("This recipe was deleted.");
  await browser.holds("a deleted recipe");
  await page.getByRole("button", { name: "Restore" }).click();
  await page.getByRole("heading", { level: 1, name: "Leek soup of theirs" }).waitFor();
}

async function describedBy(field) {
  return field.evaluate((input) =>
    (input.getAttribute("aria-describedby") ?? "")
      .split(" ")
      .map((id) => document.getElementById(id)?.textContent ?? "")
      .join(" "),
  );
}

/** Somebody else changes name and tags while this page changes the name and the author. */
async function conflict(browser, recipe) {
  const { page } = browser;
  await page.goto(`${recipe}/edit`);
  await page.getByLabel("Name", { exact: true }).fill("Leek soup of mine");
  await page.getByLabel("Author").fill("Mary");
  await page.evaluate(async (id) => {
    const theirs = { name: "Leek soup of theirs", tags: ["spring"] };
    const answer = await fetch(`/v1/recipes/${id}`, { method: "PATCH", body: JSON.stringify(theirs) });
    const token = answer.headers.get("Consistency-Token");
    await fetch(`/v1/recipes/${id}`, { headers: { "Consistency-Token": token } });
  }, recipe.split("/").at(-1));
  browser.expected = [412];
  await page.getByRole("button", { name: "Write the change" }).click();
  await browser.sees("Somebody changed it in the meantime");
  const names = page.getByRole("group", { name: "Name changed by both" });
  assert.match(await names.innerText(), /Leek soup of theirs[^]*Leek soup of mine/);
  // What one side alone changed is chosen already.
  assert.equal(await page.getByRole("group", { name: "Tags" }).getByLabel("Theirs").isChecked(), true);
  assert.equal(await page.getByRole("group", { name: "Author" }).getByLabel("Mine").isChecked(), true);
  await names.getByLabel("Theirs").check();
  await browser.holds("a conflict");
  await page.getByRole("button", { name: "Write what is chosen" }).click();
  await page.getByRole("heading", { level: 1, name: "Leek soup of theirs" }).waitFor();
  await browser.sees("By Mary");
  await page.getByRole("link", { name: "spring" }).waitFor();
}

async function picture(browser, recipe) {
  const { page } = browser;
  await page.goto(recipe);
  await page.getByText("Picture", { exact: true }).click();
  await page.getByLabel("JPEG, PNG or WebP").setInputFiles({ name: "a.png", mimeType: "image/png", buffer: PIXEL });
  const shown = page.locator("main img");
  await shown.waitFor();
  await browser.until("a picture", () => shown.evaluate((image) => image.complete && image.naturalWidth > 0));
}
