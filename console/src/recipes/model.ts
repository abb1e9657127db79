// Recipes as the API gives and takes them.
import { duration } from "../time";

export interface Quantity {
  value?: number;
  min?: number;
  max?: number;
  unit: string;
}

export interface Ingredient {
  ingredient: string;
  section: string | null;
  preparation: string | null;
  quantity: Quantity | null;
}

export interface Step {
  text: string;
  ingredients: string[];
  duration: string | null;
}

export interface RecipeBody {
  name: string;
  description: string | null;
  author: string | null;
  difficulty: string | null;
  calories: number | null;
  tags: string[];
  ingredients: Ingredient[];
  steps: Step[];
  serves: { min: number; max: number } | null;
  tools: string[];
  notes: string[];
  times: { preparation: string | null; cooking: string | null } | null;
}

export interface Recipe extends RecipeBody {
  id: string;
  version: number;
  created_at: string;
  updated_at: string;
  thumbnail: string | null;
}

export interface Vocabulary {
  units: { unit: string; meaning: string }[];
  difficulties: string[];
  ingredients: string[];
  tools: string[];
  tags: string[];
}

/** `FRESH_THYME` as people write it. What is written in small letters anywhere stays as it is. */
export function words(text: string): string {
  if (text !== text.toUpperCase()) return text;
  return text.replace(/_/g, " ").toLowerCase();
}

const SYMBOLS: Record<string, string> = { L: "l", ML: "ml", CL: "cl", DL: "dl" };

export function amount(quantity: Quantity | null): string {
  if (!quantity) return "to taste";
  const number =
    quantity.value !== undefined ? String(quantity.value) : `${quantity.min ?? ""}–${quantity.max ?? ""}`;
  if (quantity.unit === "PIECE") return number;
  return `${number} ${SYMBOLS[quantity.unit] ?? words(quantity.unit)}`;
}

export function serves(recipe: RecipeBody): string {
  if (!recipe.serves) return "";
  const { min, max } = recipe.serves;
  return min === max ? `${min}` : `${min}–${max}`;
}

export function times(recipe: RecipeBody): string {
  const { preparation, cooking } = recipe.times ?? {};
  return [preparation && `preparation ${duration(preparation)}`, cooking && `cooking ${duration(cooking)}`]
    .filter(Boolean)
    .join(", ");
}

/** What a client sends of what it got. */
export function bodyOf(recipe: Recipe): RecipeBody {
  const { id: _id, version: _version, created_at: _created, updated_at: _updated, thumbnail: _thumbnail, ...body } = recipe;
  return body;
}

/** A part of a recipe as lines, to show how two versions differ. */
export function linesOf(name: string, value: unknown): string[] {
  if (value === null || value === undefined) return [];
  switch (name) {
    case "ingredients":
      return (value as Ingredient[]).map((one) =>
        [one.section && `[${one.section}]`, amount(one.quantity), words(one.ingredient), one.preparation && `(${one.preparation})`]
          .filter(Boolean)
          .join(" "),
      );
    case "steps":
      return (value as Step[]).map((one) =>
        [one.text, one.duration && `(${duration(one.duration)})`, one.ingredients.length > 0 && `with ${one.ingredients.map(words).join(", ")}`]
          .filter(Boolean)
          .join(" "),
      );
    case "times": {
      const said = times({ times: value } as RecipeBody);
      return said ? [said] : [];
    }
    case "serves":
      return [serves({ serves: value } as RecipeBody)];
  }
  return Array.isArray(value) ? value.map(String) : String(value).split("\n");
}
