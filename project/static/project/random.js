// Random names. Not crypto.randomUUID, which browsers lack on pages that come over plain http from another machine.

export function random(bytes = 16) {
  return [...crypto.getRandomValues(new Uint8Array(bytes))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
