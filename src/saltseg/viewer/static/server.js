/* What saltseg.viewer.server answers. */

const SILENT = "saltseg view does not answer; is it still running?";
let newest = null;

/**
 * Ask for an item: title, name, height, width, axes x and y, and layers, Uint8Array of height * width by name.
 *
 * A later call ends an earlier one, which then gives null. Errors have one line to show.
 */
export async function ask(url, options = {}) {
  newest?.abort();
  const mine = (newest = new AbortController());
  try {
    const response = await fetch(url, { ...options, signal: mine.signal });
    if (!response.ok) throw new Error(await reason(response));
    return decode(await response.arrayBuffer());
  } catch (error) {
    if (mine.signal.aborted) return null;
    throw error instanceof TypeError ? new Error(SILENT) : error;
  }
}

/** The message of saltseg.viewer.items.Item.encode. */
function decode(buffer) {
  const start = 4 + new DataView(buffer).getUint32(0, true);
  const item = JSON.parse(new TextDecoder().decode(buffer.slice(4, start)));
  const size = item.height * item.width;
  const layers = item.layers.map((name, k) => [name, new Uint8Array(buffer, start + k * size, size)]);
  return { ...item, layers: Object.fromEntries(layers) };
}

async function reason(response) {
  try {
    return (await response.json()).error;
  } catch {
    return `the server failed (${response.status}); its terminal says why`;
  }
}

/** What the page can show; an error has one line to show. */
export async function askState() {
  const response = await fetch("/api/state").catch(() => {
    throw new Error(SILENT);
  });
  if (!response.ok) throw new Error(await reason(response));
  return response.json();
}

/** Of the image that is being predicted: windows done and total, seconds left; nothing without an answer. */
export async function askProgress() {
  try {
    return await (await fetch("/api/progress")).json();
  } catch {
    return {};
  }
}
