// Sends the new password with the token of the link. The token leaves the address bar at once, so neither history nor a screenshot keeps it.
"use strict";

const token = new URLSearchParams(location.hash.slice(1)).get("token");
history.replaceState(null, "", location.pathname);

const form = document.getElementById("form");
const password = document.getElementById("password");
const again = document.getElementById("again");
const button = document.getElementById("send");
const message = document.getElementById("message");

function say(kind, text) {
    message.dataset.kind = kind;
    message.textContent = text;
}

// The field that is wrong, marked for eyes and screen readers alike; none clears both.
function mark(field) {
    for (const input of [password, again]) {
        input.setAttribute("aria-invalid", String(input === field));
    }
    if (field) field.focus();
}

function problem() {
    const count = new TextEncoder().encode(password.value).length;
    if (count < 8 || count > 1024) return [password, "The password must be 8–1024 bytes long."];
    if (password.value !== again.value) return [again, "The two passwords differ."];
    return null;
}

async function send() {
    const answer = await fetch("/auth/reset-password", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        credentials: "omit",
        body: JSON.stringify({ token, new_password: password.value }),
    });
    const body = await answer.json().catch(() => ({}));
    if (answer.ok) return;
    const id = body.request_id ? ` (request ${body.request_id})` : "";
    throw new Error((body.message || `The server answered ${answer.status}.`) + (answer.status >= 500 ? id : ""));
}

form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const wrong = problem();
    mark(wrong && wrong[0]);
    if (wrong) return say("error", wrong[1]);
    button.disabled = true;
    say("", "Setting the password …");
    try {
        await send();
        form.reset();
        form.hidden = true;
        say("success", "The new password holds. Log in with it to get a new API key.");
    } catch (error) {
        say("error", error instanceof TypeError ? "The server can't be reached; try again." : error.message);
    } finally {
        button.disabled = false;
        message.focus();
    }
});

document.getElementById("show").addEventListener("change", (event) => {
    for (const input of [password, again]) input.type = event.target.checked ? "text" : "password";
});

if (token) {
    form.hidden = false;
    password.focus();
} else {
    say("error", "This link is incomplete: open the one in the mail, or ask for a new mail (POST /auth/forgot-password).");
}

// A second link opened in the same tab changes only the fragment.
window.addEventListener("hashchange", () => location.reload());
