// Shows the appliance's own counters, read from its metrics page.
const PERIOD_MS = 2000;

/** The samples of an OpenMetrics page, by name; samples with labels are added up. */
function parse(text) {
  const samples = new Map();
  for (const line of text.split("\n")) {
    const match = /^([a-z_]+)(?:\{[^}]*\})? (\d+)$/.exec(line);
    if (match) samples.set(match[1], (samples.get(match[1]) ?? 0) + Number(match[2]));
  }
  return samples;
}

async function refresh(fields) {
  const response = await fetch("/.paravane/metrics", { cache: "no-store" });
  if (!response.ok) throw new Error(`status ${response.status}`);
  const samples = parse(await response.text());
  for (const field of fields) {
    field.textContent = (samples.get(field.dataset.metric) ?? 0).toLocaleString();
  }
}

const panel = document.querySelector("[data-live]");
if (panel) {
  const fields = panel.querySelectorAll("[data-metric]");
  const tick = async () => {
    try {
      await refresh(fields);
      setTimeout(tick, PERIOD_MS);
    } catch {
      // Metrics are switched off, or the guest has been stopped.
      panel.hidden = true;
    }
  };
  tick();
}
