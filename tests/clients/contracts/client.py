"""A first write and the read that follows it, with a client that openapi-python-client makes of the OpenAPI document."""

import sys

from almanac_client import AuthenticatedClient
from almanac_client.api.default import create_recipe, get_recipe, list_recipes
from almanac_client.models import Ingredient, ListRecipesResponse200, Problem, Recipe, RecipeBody, Step

url, token = sys.argv[1:]
client = AuthenticatedClient(base_url=url, token=token)

body = RecipeBody(name="Thyme butter", ingredients=[Ingredient(ingredient="thyme")], steps=[Step(text="Stir.")])
written = create_recipe.sync_detailed(client=client, body=body, idempotency_key="python")
assert written.status_code == 201 and isinstance(written.parsed, Recipe), written
seen = written.headers["Consistency-Token"]

read = get_recipe.sync(written.parsed.id, client=client, consistency_token=seen)
assert isinstance(read, Recipe) and read.name == body.name, read
found = list_recipes.sync(client=client, ingredient=["thyme"], consistency_token=seen)
assert isinstance(found, ListRecipesResponse200) and read.id in [one.id for one in found.items], found

none = get_recipe.sync("0198c5a0-0000-7000-8000-000000000000", client=client)
assert isinstance(none, Problem) and none.type_ == "/problems/not-found", none
print(f"python: {read.id}")
