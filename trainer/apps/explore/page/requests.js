// What the page asks the program for. A failed request throws an Error whose message is for the reader.

const GONE = "The program does not answer. Start it again, and reload this page.";

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error(GONE);
  }
  if (response.ok) return response;
  const { error } = await response.json().catch(() => ({ error: `${path}: ${response.status}` }));
  throw Object.assign(new Error(error), { overtaken: response.status === 409 });
}

const json = (content, signal) => ({
  method: "POST", body: JSON.stringify(content), headers: { "Content-Type": "application/json" }, signal,
});

export const getJson = async (path) => (await ask(path)).json();
export const postJson = async (path, content) => (await ask(path, json(content))).json();
export const postForBlob = async (path, content) => (await ask(path, json(content))).blob();
export const postFile = async (path, file) => (await ask(path, { method: "POST", body: file })).json();

// Yields each line of JSON as it comes. Aborting `signal` ends the connection, and with it the work.
export async function* postForLines(path, content, signal) {
  const response = await ask(path, json(content, signal));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ;) {
    const { done, value } = await reader.read();
    const lines = (rest + (value ?? "")).split("\n");
    rest = done ? "" : lines.pop();
    for (const line of lines) if (line) yield JSON.parse(line);
    if (done) return;
  }
}
