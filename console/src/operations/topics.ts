import { get } from "../api";
import { type Loaded, useLoad } from "../ui/load";

/** Topics whose events are served, from the document that describes them. */
export function useTopics(): Loaded<string[]> {
  return useLoad("topics", async (signal) => {
    const document = await get<{ channels: Record<string, unknown> }>("/asyncapi.json", signal);
    // Webhooks are a channel as well, and no topic.
    return Object.keys(document.channels).map((id) => id.replace(/_/g, ".")).filter((name) => name.endsWith(".events")).sort();
  });
}
