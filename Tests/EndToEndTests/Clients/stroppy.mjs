// The documented TypeScript client of sessions and runs: log in, work with runs, log out.
import assert from "node:assert/strict";
import { call, fresh, load } from "./browser.mjs";

const StroppyAPI = load("StroppyAPI.ts", "StroppyAPI");
const username = fresh();
const email = `${username}@example.com`;
const password = "securepassword123";

const made = await call("POST", "/api/v1/auth/register", { username, email, password });
assert.equal(made.status, 201);
assert.equal(made.json.user.username, username);
assert.ok(made.json.token);

const api = new StroppyAPI();
await assert.rejects(api.makeRequest("/api/v1/runs"), { message: "Not authenticated" });
const login = await api.login(username, password);
assert.equal(login.user.email, email);
assert.deepEqual(Object.keys(login.user).filter((name) => name !== "full_name").sort(), ["created_at", "email", "id", "username"]);

const json = { "Content-Type": "application/json" };
const send = (method, path, body) => api.makeRequest(path, { method, headers: json, body: JSON.stringify(body) });

assert.deepEqual(await (await api.makeRequest("/api/v1/runs")).json(), { runs: [], total: 0, page: 1, limit: 20 });
const created = await send("POST", "/api/v1/runs", { name: "Run", description: "by a client", config: { scale: 10 } });
assert.equal(created.status, 201);
const run = await created.json();
assert.deepEqual([run.status, run.config, run.tps], ["pending", { scale: 10 }, null]);
const path = `/api/v1/runs/${run.id}`;
assert.equal((await send("PUT", `${path}/status`, { status: "completed" })).status, 409);
assert.equal((await send("PUT", `${path}/status`, { status: "running" })).status, 200);
const tps = { max: 1500.5, min: 10, average: 700, "95p": 1400, "99p": 1490 };
assert.deepEqual((await (await send("PUT", `${path}/tps`, tps)).json()).tps, tps);
const done = await (await send("PUT", `${path}/status`, { status: "completed", result: { ok: true } })).json();
assert.deepEqual([done.status, done.result], ["completed", { ok: true }]);
const found = await (await api.makeRequest("/api/v1/runs?search=RUN&status=completed&sort_by=name&sort_order=asc&page=1&limit=5")).json();
assert.deepEqual(found, { runs: [done], total: 1, page: 1, limit: 5 });
assert.equal((await api.makeRequest(path, { method: "DELETE" })).status, 200);

assert.equal((await api.makeRequest("/api/v1/auth/logout", { method: "POST" })).status, 200);
const refused = await api.makeRequest("/api/v1/runs");
assert.equal(refused.status, 401);
const { error, message, code } = await refused.json();
assert.deepEqual({ error, message, code }, { error: "unauthorized", message: "Invalid or expired token", code: 401 });
