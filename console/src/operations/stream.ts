// Server-sent events read with `fetch`: an `EventSource` cannot send a bearer token.
import { headersFor, pause, Problem, problemOf } from "../api";

export interface Message {
  id: string;
  data: string;
}

const LONGEST_PAUSE_MS = 15_000;

/** Follows a stream until it is cancelled: one that ends or breaks is taken up behind the last event. */
export async function follow(
  path: string,
  signal: AbortSignal,
  told: { message: (message: Message) => void; state: (state: "open" | "waiting") => void },
): Promise<void> {
  let last = "";
  for (let failures = 0; ; ) {
    try {
      const headers = headersFor(path);
      headers.set("Accept", "text/event-stream");
      if (last) headers.set("Last-Event-ID", last);
      const response = await fetch(path, { headers, signal, cache: "no-store" });
      if (!response.ok) {
        const body: unknown = await response.json().catch(() => null);
        const problem = problemOf(response.status, body, response.headers.get("Request-Id"));
        // What was asked for is at fault, and would be again.
        if (response.status < 500) throw problem;
      } else if (response.body) {
        told.state("open");
        failures = 0;
        for await (const message of messages(response.body)) {
          if (message.id) last = message.id;
          if (message.data) told.message(message);
        }
      }
    } catch (error) {
      if (signal.aborted || error instanceof Problem) throw error;
    }
    told.state("waiting");
    failures += 1;
    await pause(Math.min(1000 * failures, LONGEST_PAUSE_MS), signal);
  }
}

async function* messages(body: ReadableStream<Uint8Array>): AsyncGenerator<Message> {
  const reader = body.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (rest + value).split(/\r?\n\r?\n/);
      rest = blocks.pop() ?? "";
      for (const block of blocks) yield parse(block);
    }
  } finally {
    void reader.cancel().catch(() => undefined);
  }
}

function parse(block: string): Message {
  const message: Message = { id: "", data: "" };
  for (const line of block.split(/\r?\n/)) {
    const [, name, value = ""] = /^([^:]*):? ?(.*)$/.exec(line) ?? [];
    if (name === "id") message.id = value;
    else if (name === "data") message.data += (message.data ? "\n" : "") + value;
  }
  return message;
}
