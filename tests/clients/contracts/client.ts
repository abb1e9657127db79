// A first write and the read that follows it, with types and a client that openapi-typescript and openapi-fetch make of
// the OpenAPI document: what the compiler takes is what the document promises.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

const [url, token] = process.argv.slice(2);
const { GET, POST } = createClient<paths>({ baseUrl: url, headers: { Authorization: `Bearer ${token}` } });

const body: components["schemas"]["RecipeBody"] = {
  name: "Thyme butter",
  ingredients: [{ ingredient: "thyme", quantity: { value: 10.5, unit: "G" } }],
  steps: [{ text: "Stir." }],
};
const written = await POST("/v1/recipes", { params: { header: { "Idempotency-Key": "typescript" } }, body });
if (!written.data) throw new Error(`${written.response.status}: ${JSON.stringify(written.error)}`);
const id: string = written.data.id;
const seen = written.response.headers.get("Consistency-Token") ?? undefined;

const read = await GET("/v1/recipes/{id}", { params: { path: { id }, header: { "Consistency-Token": seen } } });
// Without an Accept header it is JSON; the other type that the address has is JSON-LD.
if (!read.data || !("version" in read.data) || read.data.name !== body.name) throw new Error(`${read.response.status}: ${JSON.stringify(read)}`);
const list = await GET("/v1/recipes", { params: { query: { ingredient: ["thyme"] }, header: { "Consistency-Token": seen } } });
if (!list.data?.items.some((one) => one.id === id)) throw new Error(JSON.stringify(list));

const none = await GET("/v1/recipes/{id}", { params: { path: { id: "0198c5a0-0000-7000-8000-000000000000" } } });
if (none.response.status !== 404 || none.error?.type !== "/problems/not-found") throw new Error(JSON.stringify(none));
console.log(`typescript: ${id}`);
