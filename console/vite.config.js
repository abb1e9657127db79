import { defineConfig } from "vite";
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";

// What the built files are made from. A test of the query API computes the same hash and fails
// where `dist` is older than its sources.
const SOURCES = ["index.html", "package-lock.json", "package.json", "src", "tsconfig.json", "vite.config.js"];

function files(path) {
  if (!statSync(path).isDirectory()) return [path];
  return readdirSync(path).flatMap((name) => files(join(path, name)));
}

function hashOfSources() {
  const hash = createHash("sha256");
  for (const file of SOURCES.flatMap(files).sort()) {
    hash.update(file).update("\0").update(readFileSync(file)).update("\0");
  }
  return hash.digest("hex");
}

const stamp = {
  name: "stamp",
  closeBundle() {
    writeFileSync("dist/sources.sha256", hashOfSources() + "\n");
  },
};

export default defineConfig({
  plugins: [stamp],
  build: { target: "es2022", assetsInlineLimit: 0, modulePreload: { polyfill: false } },
  server: { proxy: { "/v1": "http://127.0.0.1:8080", "/readyz": "http://127.0.0.1:8080" } },
});
