// What a page of the cloud's own origin would give the documented classes: fetch with relative URLs. They are loaded as they are printed.
// Each run has a client address, and so a rate limit, of its own; the stack under test believes the header.
import { execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";

const origin = process.env.THECLOUD_TEST_URL;
const address = process.env.CLIENT_ADDRESS;
const plain = globalThis.fetch;

globalThis.fetch = (url, options = {}) =>
  plain(url.replace(/^(http:\/\/localhost:8000)?(?=\/)/, origin), { ...options, headers: { ...options.headers, "X-Forwarded-For": address } });

/** The class that a file of this folder declares; types are taken away first. */
export function load(file, name) {
  const text = readFileSync(new URL(file, import.meta.url), "utf8");
  const script = file.endsWith(".ts") ? execFileSync("esbuild", ["--loader=ts"], { input: text, encoding: "utf8" }) : text;
  return new Function(`${script}\nreturn ${name};`)();
}

/** A request of the driver's own; status and body. */
export async function call(method, path, body, key) {
  const headers = { ...(body && { "Content-Type": "application/json" }), ...(key && { Authorization: `Bearer ${key}` }) };
  const response = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
  return { status: response.status, json: await response.json() };
}

/** A name that nobody has. */
export const fresh = () => "e2e-" + randomUUID().slice(0, 18);
