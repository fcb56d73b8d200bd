// Says which files give themselves away by their names, by the server's table: they are not attached.
// The server looks at messages itself, at what is in the files too; here a person learns it before they ask.

import { server } from "./server.js";

let names;

export async function hasSecretName(name) {
  names ??= server.get("/web/secret-names").catch(() => (names = undefined));
  const table = await names;
  const low = name.toLowerCase();
  if (!table || table.examples.includes(low)) return false;
  return table.names.includes(low) || table.patterns.some((pattern) => fits(pattern, low));
}

function fits(pattern, name) {
  const parts = pattern.split("*").map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(`^${parts.join(".*")}$`, "s").test(name);
}
