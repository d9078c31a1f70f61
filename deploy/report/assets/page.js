(() => {
  "use strict";
  const legend = document.querySelector(".legend");
  const groups = [...legend.querySelectorAll("span")].map((part) => part.textContent.trim());
  const styles = [...legend.querySelectorAll(".swatch")].map((swatch) => swatch.className);
  const tasks = [...document.querySelectorAll(".task")];

  if (new Set([...document.querySelectorAll("figure.task")].map((f) => f.dataset.name)).size > 1) {
    const search = document.createElement("input");
    search.type = "search";
    search.placeholder = "Filter tasks";
    search.setAttribute("aria-label", "Filter tasks by name");
    search.addEventListener("input", () => {
      const wanted = search.value.trim().toLowerCase();
      for (const task of tasks) {
        task.hidden = Boolean(wanted) && !task.dataset.name.toLowerCase().includes(wanted);
      }
    });
    legend.append(search);
  }

  const readOut = document.getElementById("read-out");
  const short = (value) => {
    const size = Math.abs(value);
    for (const [unit, letter] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
      if (size >= unit) return Number((value / unit).toPrecision(3)) + letter;
    }
    return String(Number(value.toPrecision(3)));
  };
  const points = new WeakMap();
  const pointsOf = (line) => {
    if (!points.has(line)) {
      points.set(line, line.getAttribute("d").slice(1).split("L").map((p) => p.split(" ").map(Number)));
    }
    return points.get(line);
  };
  let cursor = null;
  const leave = () => {
    readOut.hidden = true;
    if (cursor) cursor.remove();
    cursor = null;
  };
  const show = (event) => {
    const chart = event.currentTarget;
    const [left, top, width, height] = chart.dataset.box.split(" ").map(Number);
    const [start, end, low, high, unit] = chart.dataset.domain.split(" ");
    const frame = chart.getBoundingClientRect();
    const scale = chart.viewBox.baseVal.width / frame.width;
    const x = Math.min(left + width, Math.max(left, (event.clientX - frame.left) * scale));
    const rows = [];
    for (const line of chart.querySelectorAll(".line[data-group]")) {
      const all = pointsOf(line);
      if (!all.length || x < all[0][0] - 8 || x > all[all.length - 1][0] + 8) continue;
      const near = all.reduce((a, b) => (Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a));
      const value = Number(low) + (1 - (near[1] - top) / height) * (high - low);
      const said = (unit ? Math.round(100 * value) + " %" : short(value)) + (line.dataset.name ? " " + line.dataset.name : "");
      rows.push([Number(line.dataset.group), said]);
    }
    if (!rows.length) return leave();
    readOut.replaceChildren();
    const where = document.createElement("b");
    where.textContent = short(Number(start) + ((x - left) / width) * (end - start));
    readOut.append(where);
    for (const [group, text] of rows) {
      const row = document.createElement("div");
      const swatch = document.createElement("i");
      swatch.className = styles[group] || "swatch";
      row.append(swatch, text + (groups.length > 1 ? "  " + groups[group] : ""));
      readOut.append(row);
    }
    readOut.hidden = false;
    const beside = event.clientX + 14 + readOut.offsetWidth > innerWidth;
    readOut.style.left = Math.max(4, event.clientX + (beside ? -14 - readOut.offsetWidth : 14)) + "px";
    readOut.style.top = Math.min(innerHeight - readOut.offsetHeight - 4, event.clientY + 14) + "px";
    if (!cursor || cursor.ownerSVGElement !== chart) {
      if (cursor) cursor.remove();
      cursor = document.createElementNS(chart.namespaceURI, "path");
      cursor.setAttribute("class", "cursor");
      chart.append(cursor);
    }
    cursor.setAttribute("d", `M${x} ${top}v${height}`);
  };
  for (const chart of document.querySelectorAll(".chart")) {
    chart.addEventListener("pointermove", show);
    chart.addEventListener("pointerleave", leave);
  }
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => { d.open = true; }));
})();
