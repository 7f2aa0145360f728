/** Requests to the server. The page reads with GET and changes with POST. */

/** A request that was refused, with the reason in words. */
export class Refusal extends Error {}

/** @param {string} route @param {RequestInit} [options] */
async function send(route, options) {
  let response;
  try {
    response = await fetch(`gui/${route}`, {cache: 'no-store', ...options});
  } catch {
    throw new Refusal('bfbridge does not answer: it has ended. Start it again.');
  }
  const reply = await response.json().catch(() => ({error: response.statusText}));
  if (!response.ok) throw new Refusal(reply.error);
  return reply;
}

/** @param {string} route */
export const get = (route) => send(route);

/** @param {string} route @param {object} [content] */
export const post = (route, content = {}) => send(route, {method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify(content)});

/** @param {unknown} error */
export const reason = (error) => (error instanceof Error ? error.message : String(error));

/** A box with an error, which screen readers read at once. @param {unknown} error @param {string} [hint] */
export function errorBox(error, hint) {
  const box = document.createElement('p');
  box.className = 'error';
  box.setAttribute('role', 'alert');
  box.textContent = hint ? `${reason(error)} ${hint}` : reason(error);
  return box;
}
