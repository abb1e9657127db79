import { useState } from "preact/hooks";
import { get } from "../api";
import { go, href } from "../route";
import { duration, isoDuration } from "../time";
import { Conflict } from "../ui/conflict";
import { useEditing } from "../ui/edit";
import { FaultList, Faults, Field, Group, Select } from "../ui/form";
import { Busy, Failed, Title } from "../ui/parts";
import { useLoad } from "../ui/load";
import { bodyOf, type Ingredient, linesOf, type Recipe, type RecipeBody, type Vocabulary, words } from "./model";

interface IngredientRow {
  ingredient: string;
  section: string;
  preparation: string;
  value: string;
  unit: string;
}

interface StepRow {
  text: string;
  ingredients: string;
  duration: string;
}

/** What is typed, as it is typed. */
interface Typed {
  name: string;
  description: string;
  author: string;
  difficulty: string;
  calories: string;
  tags: string;
  tools: string;
  notes: string;
  servesMin: string;
  servesMax: string;
  preparation: string;
  cooking: string;
  ingredients: IngredientRow[];
  steps: StepRow[];
}

const NO_INGREDIENT: IngredientRow = { ingredient: "", section: "", preparation: "", value: "", unit: "G" };
const NO_STEP: StepRow = { text: "", ingredients: "", duration: "" };

function typedOf(body: RecipeBody | null): Typed {
  const quantity = ({ quantity }: Ingredient): string =>
    quantity === null ? "" : quantity.value !== undefined ? String(quantity.value) : `${quantity.min}-${quantity.max}`;
  return {
    name: body?.name ?? "",
    description: body?.description ?? "",
    author: body?.author ?? "",
    difficulty: body?.difficulty ?? "",
    calories: body?.calories?.toString() ?? "",
    tags: body?.tags.join(", ") ?? "",
    tools: body?.tools.join(", ") ?? "",
    notes: body?.notes.join("\n") ?? "",
    servesMin: body?.serves?.min.toString() ?? "",
    servesMax: body?.serves?.max.toString() ?? "",
    preparation: duration(body?.times?.preparation),
    cooking: duration(body?.times?.cooking),
    ingredients: body?.ingredients.map((one) => ({
      ingredient: one.ingredient,
      section: one.section ?? "",
      preparation: one.preparation ?? "",
      value: quantity(one),
      unit: one.quantity?.unit ?? "G",
    })) ?? [NO_INGREDIENT],
    steps: body?.steps.map((one) => ({ text: one.text, ingredients: one.ingredients.join(", "), duration: duration(one.duration) })) ?? [NO_STEP],
  };
}

const listOf = (text: string, separator: RegExp | string = ","): string[] =>
  text.split(separator).map((one) => one.trim()).filter(Boolean);
/** What is no number is sent as it is: the server names it at its field. */
const numberOf = (text: string): number => (text.trim() !== "" && !Number.isNaN(Number(text)) ? Number(text) : (text.trim() as never));

function quantityOf(row: IngredientRow): Ingredient["quantity"] {
  const text = row.value.trim().replace(",", ".");
  if (!text) return null;
  const range = /^(\S+?)\s*[-–]\s*(\S+)$/.exec(text);
  if (range) return { min: numberOf(range[1]!), max: numberOf(range[2]!), unit: row.unit };
  return { value: numberOf(text), unit: row.unit };
}

function bodyOfTyped(typed: Typed): RecipeBody {
  const orNull = (text: string): string | null => text.trim() || null;
  const min = typed.servesMin || typed.servesMax;
  const max = typed.servesMax || typed.servesMin;
  const [preparation, cooking] = [isoDuration(typed.preparation) || null, isoDuration(typed.cooking) || null];
  return {
    name: typed.name,
    description: orNull(typed.description),
    author: orNull(typed.author),
    difficulty: orNull(typed.difficulty),
    calories: typed.calories.trim() ? numberOf(typed.calories) : null,
    tags: listOf(typed.tags),
    ingredients: typed.ingredients.map((row) => ({
      ingredient: row.ingredient,
      section: orNull(row.section),
      preparation: orNull(row.preparation),
      quantity: quantityOf(row),
    })),
    steps: typed.steps.map((row) => ({ text: row.text, ingredients: listOf(row.ingredients), duration: isoDuration(row.duration) || null })),
    serves: min ? { min: numberOf(min), max: numberOf(max) } : null,
    tools: listOf(typed.tools),
    notes: listOf(typed.notes, "\n"),
    times: preparation || cooking ? { preparation, cooking } : null,
  };
}

/** Rows with nothing in them are no part of the recipe; pointers count the ones that are left. */
function withoutEmptyRows(typed: Typed): Typed {
  const ingredients = typed.ingredients.filter((row) => row.ingredient || row.value || row.preparation || row.section);
  const steps = typed.steps.filter((row) => row.text || row.ingredients || row.duration);
  return { ...typed, ingredients, steps };
}

export function RecipeForm({ id }: { id: string | null }) {
  const path = id ? `/v1/recipes/${encodeURIComponent(id)}` : "";
  const loaded = useLoad(path, (signal) => (path ? get<Recipe>(path, signal) : Promise.resolve(null)));
  const title = id ? "Change a recipe" : "New recipe";
  if (loaded.problem && !loaded.data) {
    return (
      <>
        <Title text={title} />
        <Failed problem={loaded.problem} again={loaded.again} />
      </>
    );
  }
  if (path && !loaded.data) return <Busy what="the recipe" />;
  return <Form title={title} loaded={loaded.data} />;
}

function Form({ title, loaded }: { title: string; loaded: Recipe | null }) {
  // What the change began from, whatever is loaded later.
  const [known] = useState(loaded);
  const [typed, setTyped] = useState(() => typedOf(known));
  const vocabulary = useLoad("vocabulary", (signal) => get<Vocabulary>("/v1/recipes/vocabulary", signal));
  const editing = useEditing<RecipeBody, Recipe>("/v1/recipes", known, bodyOf, (id) => go(["recipes", id]));
  const set = <Name extends keyof Typed>(name: Name) => (value: Typed[Name]): void => setTyped({ ...typed, [name]: value });
  const submit = (event: Event): void => {
    event.preventDefault();
    const kept = withoutEmptyRows(typed);
    setTyped(kept);
    void editing.write(bodyOfTyped(kept));
  };
  if (editing.conflict && known) {
    const { mine, theirs } = editing.conflict;
    return (
      <>
        <Title text={title} />
        <Conflict
          base={bodyOf(known) as unknown as Record<string, unknown>}
          mine={mine as unknown as Record<string, unknown>}
          theirs={theirs as unknown as Record<string, unknown>}
          linesOf={linesOf}
          choose={(chosen) => {
            const body = chosen as unknown as RecipeBody;
            setTyped(typedOf(body));
            void editing.resolve(body);
          }}
          cancel={editing.dismiss}
        />
      </>
    );
  }
  return (
    <Faults.Provider value={editing.problem?.faults ?? []}>
      <p class="way">
        <a href={known ? href(["recipes", known.id]) : href(["recipes"])}>{known ? known.name : "Recipes"}</a>
      </p>
      <Title text={title} />
      {editing.problem && <FaultList problem={editing.problem} />}
      <form class="form" noValidate onSubmit={submit}>
        <Field pointer="#/name" label="Name" value={typed.name} set={set("name")} required />
        <Field pointer="#/description" label="Description" rows={3} value={typed.description} set={set("description")} />
        <div class="row">
          <Field pointer="#/author" label="Author" value={typed.author} set={set("author")} />
          <Select
            pointer="#/difficulty"
            label="Difficulty"
            value={typed.difficulty}
            set={set("difficulty")}
            options={[["", "not said"], ["EASY", "easy"], ["MEDIUM", "medium"], ["HARD", "hard"]]}
          />
          <Field pointer="#/serves/min" label="Serves" size={4} inputMode="numeric" value={typed.servesMin} set={set("servesMin")} />
          <Field pointer="#/serves/max" label="to" size={4} inputMode="numeric" value={typed.servesMax} set={set("servesMax")} />
          <Field pointer="#/calories" label="kcal per serving" size={6} inputMode="numeric" value={typed.calories} set={set("calories")} />
        </div>
        <div class="row">
          <Field pointer="#/times/preparation" label="Preparation time" size={10} hint="such as 1 h 30 min" value={typed.preparation} set={set("preparation")} />
          <Field pointer="#/times/cooking" label="Cooking time" size={10} hint="such as 40 min" value={typed.cooking} set={set("cooking")} />
        </div>
        <IngredientRows rows={typed.ingredients} set={set("ingredients")} vocabulary={vocabulary.data} />
        <StepRows rows={typed.steps} set={set("steps")} />
        <Field pointer="#/tools" label="Tools" hint="with commas between" value={typed.tools} set={set("tools")} />
        <Field pointer="#/tags" label="Tags" hint="with commas between" value={typed.tags} set={set("tags")} />
        <Field pointer="#/notes" label="Notes" hint="one on each line" rows={3} value={typed.notes} set={set("notes")} />
        <p class="buttons">
          <button type="submit" class="main" disabled={editing.isBusy}>
            {editing.isBusy ? "Writing…" : known ? "Write the change" : "Write the recipe"}
          </button>
          <a href={known ? href(["recipes", known.id]) : href(["recipes"])}>Cancel</a>
        </p>
      </form>
    </Faults.Provider>
  );
}

function IngredientRows(props: { rows: IngredientRow[]; set: (rows: IngredientRow[]) => void; vocabulary: Vocabulary | null }) {
  const { rows, set, vocabulary } = props;
  const units = vocabulary?.units.map(({ unit }): [string, string] => [unit, words(unit)]) ?? [];
  const put = (at: number, changes: Partial<IngredientRow>): void =>
    set(rows.map((row, number) => (number === at ? { ...row, ...changes } : row)));
  return (
    <Group pointer="#/ingredients" legend="Ingredients" hint="A quantity is a number or a range such as 3-4; without one it is to taste.">
      {rows.map((row, at) => {
        const pointer = `#/ingredients/${at}`;
        const isRange = /\S\s*[-–]\s*\S/.test(row.value);
        return (
          <div key={at} class="row item" role="group" aria-label={`Ingredient ${at + 1}`}>
            <Field
              pointer={`${pointer}/quantity/${isRange ? "max" : "value"}`}
              label="Quantity"
              size={6}
              value={row.value}
              set={(value) => put(at, { value })}
            />
            <Select
              pointer={`${pointer}/quantity/unit`}
              label="Unit"
              value={row.unit}
              set={(unit) => put(at, { unit })}
              options={units.some(([unit]) => unit === row.unit) ? units : [[row.unit, words(row.unit)], ...units]}
            />
            <Field pointer={`${pointer}/ingredient`} label="Ingredient" list="ingredients" required value={row.ingredient} set={(ingredient) => put(at, { ingredient })} />
            <Field pointer={`${pointer}/preparation`} label="Preparation" value={row.preparation} set={(preparation) => put(at, { preparation })} />
            <Field pointer={`${pointer}/section`} label="Section" value={row.section} set={(section) => put(at, { section })} />
            <Remove what={`ingredient ${at + 1}`} remove={() => set(rows.filter((_, number) => number !== at))} />
          </div>
        );
      })}
      <datalist id="ingredients">
        {vocabulary?.ingredients.map((one) => <option key={one} value={one} />)}
      </datalist>
      <button type="button" onClick={() => set([...rows, { ...NO_INGREDIENT, section: rows.at(-1)?.section ?? "" }])}>
        Add an ingredient
      </button>
    </Group>
  );
}

function StepRows({ rows, set }: { rows: StepRow[]; set: (rows: StepRow[]) => void }) {
  const put = (at: number, changes: Partial<StepRow>): void =>
    set(rows.map((row, number) => (number === at ? { ...row, ...changes } : row)));
  return (
    <Group pointer="#/steps" legend="Steps" hint="Ingredients used are listed ones, with commas between.">
      {rows.map((row, at) => (
        <div key={at} class="item" role="group" aria-label={`Step ${at + 1}`}>
          <Field pointer={`#/steps/${at}/text`} label={`Step ${at + 1}`} rows={2} required value={row.text} set={(text) => put(at, { text })} />
          <div class="row">
            <Field
              pointer={`#/steps/${at}/ingredients/0`}
              label="Ingredients used"
              value={row.ingredients}
              set={(ingredients) => put(at, { ingredients })}
            />
            <Field pointer={`#/steps/${at}/duration`} label="Time" size={10} value={row.duration} set={(text) => put(at, { duration: text })} />
            <Remove what={`step ${at + 1}`} remove={() => set(rows.filter((_, number) => number !== at))} />
          </div>
        </div>
      ))}
      <button type="button" onClick={() => set([...rows, NO_STEP])}>
        Add a step
      </button>
    </Group>
  );
}

export function Remove({ what, remove }: { what: string; remove: () => void }) {
  return (
    <button type="button" class="remove" aria-label={`Remove ${what}`} onClick={remove}>
      Remove
    </button>
  );
}
