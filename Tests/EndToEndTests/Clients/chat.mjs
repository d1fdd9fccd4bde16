// The documented browser client of Chat: a client application makes a user, logs it in, and the user says something in a room.
import assert from "node:assert/strict";
import { call, fresh, load } from "./browser.mjs";

const ChatAPIClient = load("ChatAPIClient.js", "ChatAPIClient");
const email = `${fresh()}@example.com`;

const made = await call("POST", "/api/v1/clients", { name: "My Chat App", description: "Customer support chat system" });
assert.equal(made.status, 201);
assert.deepEqual([made.json.name, made.json.description, made.json.is_active], ["My Chat App", "Customer support chat system", true]);
assert.match(made.json.master_api_key, /^ck_live_/);

const client = new ChatAPIClient(made.json.master_api_key);
const user = await client.createUser({ email, username: "user123", full_name: "User Name" });
assert.deepEqual([user.email, user.username, user.full_name, user.is_active], [email, "user123", "User Name", true]);
assert.match(user.scoped_api_key, /^sk_user_/);

const login = await client.loginUser(email);
const userKey = login.scoped_api_key;
assert.equal(login.user.id, user.id);
assert.notEqual(userKey, user.scoped_api_key);
assert.ok(Date.parse(login.expires_at) > Date.now());

const room = await call("POST", "/api/v1/rooms", { name: "Support" }, made.json.master_api_key);
assert.equal(room.status, 201);
assert.equal((await call("POST", "/api/v1/rooms/join", { room_id: room.json.id }, userKey)).status, 200);
const message = await client.sendMessage(userKey, { room_id: room.json.id, content: "Hello, world!", message_type: "text" });
assert.deepEqual([message.room_id, message.content, message.message_type], [room.json.id, "Hello, world!", "text"]);
const read = await call("GET", `/api/v1/messages?room_id=${room.json.id}`, undefined, userKey);
assert.equal(read.status, 200);
assert.ok(JSON.stringify(read.json).includes(message.id));

const refused = await client.sendMessage(user.scoped_api_key, { room_id: room.json.id, content: "again", message_type: "text" });
const { detail, error_code, status_code } = refused;
assert.deepEqual(
  { detail, error_code, status_code },
  { detail: "Invalid authentication credentials", error_code: "INVALID_CREDENTIALS", status_code: 401 },
);
const forbidden = await call("POST", "/api/v1/users", { email, username: "x" }, userKey);
assert.deepEqual(
  [forbidden.status, forbidden.json.detail, forbidden.json.error_code, forbidden.json.status_code],
  [403, "Insufficient permissions for this operation", "INSUFFICIENT_PERMISSIONS", 403],
);
