"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("scripted");

  const theme = document.querySelector(".theme");
  theme.style.display = "inline-block";
  theme.addEventListener("click", () => {
    const now = root.style.colorScheme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    root.style.colorScheme = now === "dark" ? "light" : "dark";
  });

  const chips = [...document.querySelectorAll(".chip")];
  for (const chip of chips) {
    chip.disabled = false;
    chip.setAttribute("aria-pressed", "true");
    chip.addEventListener("click", () => {
      const off = chip.classList.toggle("off");
      chip.setAttribute("aria-pressed", String(!off));
      for (const element of document.querySelectorAll("[data-subject]")) {
        if (element !== chip && element.dataset.subject === chip.dataset.subject) {
          element.classList.toggle("off", off);
        }
      }
    });
  }

  const readout = document.createElement("div");
  readout.id = "readout";
  readout.hidden = true;
  document.body.append(readout);

  const axis = (text) => {
    const [kind, min, max, from, to, unit] = text.split(" ").map((part, i) => (i > 0 && i < 5 ? Number(part) : part));
    const value = (px) => {
      const part = (px - from) / (to - from);
      return kind === "log" ? min * Math.pow(max / min, part) : min + (max - min) * part;
    };
    return { value, unit };
  };
  const digits = (v) => (v >= 100 ? Math.round(v).toLocaleString("en") : v.toPrecision(3));
  const told = (v, unit) => {
    if (unit === "us") return v < 1e3 ? `${digits(v)} µs` : v < 1e6 ? `${digits(v / 1e3)} ms` : `${digits(v / 1e6)} s`;
    if (unit === "tail") {
      const nines = Math.max(0, Math.ceil(Math.log10(v)) - 1);
      return `p${Number((100 - 100 / v).toFixed(nines + 1))}`;
    }
    if (unit === "per_s") return `${digits(v)}/s`;
    return unit === "s" ? `${digits(v)} s` : digits(v);
  };

  for (const chart of document.querySelectorAll("svg.chart")) {
    // The name of the picture would pop up over the figures: it goes where only readers of the screen meet it.
    const title = chart.querySelector(":scope > title");
    if (title) {
      chart.setAttribute("aria-label", title.textContent);
      title.remove();
    }
    const area = chart.querySelector(".hit");
    if (!area) continue;
    const [x, y] = [axis(area.dataset.x), axis(area.dataset.y)];
    const box = area.getBBox();
    const guide = document.createElementNS("http://www.w3.org/2000/svg", "line");
    guide.setAttribute("class", "guide");
    guide.setAttribute("y1", box.y);
    guide.setAttribute("y2", box.y + box.height);
    guide.style.display = "none";
    chart.append(guide);
    const hide = () => {
      readout.hidden = true;
      guide.style.display = "none";
    };
    chart.addEventListener("pointerleave", hide);
    chart.addEventListener("pointermove", (event) => {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(chart.getScreenCTM().inverse());
      if (at.x < box.x || at.x > box.x + box.width || at.y < box.y || at.y > box.y + box.height) return hide();
      const found = [];
      for (const line of chart.querySelectorAll(".line:not(.off)")) {
        let best = null;
        for (const point of line.points) {
          if (best === null || Math.abs(point.x - at.x) < Math.abs(best.x - at.x)) best = point;
        }
        if (best && Math.abs(best.x - at.x) < 25) found.push([best, line.dataset.name]);
      }
      if (found.length === 0) return hide();
      found.sort((a, b) => a[0].y - b[0].y);
      const near = found.reduce((a, b) => (Math.abs(b[0].x - at.x) < Math.abs(a[0].x - at.x) ? b : a))[0].x;
      const lines = found.map(([point, name]) => `${told(y.value(point.y), y.unit).padStart(9)}  ${name}`);
      readout.textContent = [told(x.value(near), x.unit), ...lines].join("\n");
      readout.hidden = false;
      guide.setAttribute("x1", near);
      guide.setAttribute("x2", near);
      guide.style.display = "";
      const width = readout.offsetWidth;
      readout.style.left = `${Math.min(event.clientX + 16, innerWidth - width - 8)}px`;
      readout.style.top = `${Math.max(8, event.clientY - readout.offsetHeight - 12)}px`;
    });
  }
})();
