"use strict";

// Draw the figures here, so that they have the page's colours and width.
(function () {
  const figures = [...document.querySelectorAll("script[data-figure]")].map((source) => ({
    div: document.getElementById(source.dataset.figure),
    json: source.textContent,
  }));
  if (!figures.length || !window.Plotly) return;

  function draw() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = {
      gridcolor: colour("--line"), linecolor: colour("--soft"), zeroline: false,
      automargin: true, ticks: "outside", tickcolor: colour("--line"),
    };
    for (const { div, json } of figures) {
      const { data, layout } = JSON.parse(json);
      for (const trace of data) {
        if (trace.type === "heatmap") {
          trace.colorscale = [0, 1, 2].map((step) => [step / 2, colour(`--shade-${step}`)]);
        }
        if (trace.error_y) trace.error_y.color = colour("--ink");
      }
      Object.assign(layout, {
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
        font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: colour("--ink") },
        margin: { l: 8, r: 12, t: 36, b: 8 },
        legend: {
          orientation: "h", x: 0, y: 1.02, yanchor: "bottom", itemsizing: "constant",
          ...layout.legend,
        },
        modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--soft"), activecolor: colour("--ink") },
        // Otherwise a finger that scrolls the page would zoom a figure.
        dragmode: window.matchMedia("(pointer: coarse)").matches ? false : "zoom",
        hoverlabel: { align: "left" },
      });
      for (const name of Object.keys(layout).filter((key) => /^[xy]axis/.test(key))) {
        layout[name] = { ...axis, ...layout[name] };
        if (data[0].type === "heatmap") layout[name].showgrid = false;
      }
      if (layout.meta === "side by side" && div.clientWidth < 640) {
        // Two panels side by side would be too narrow, so one is above the other.
        layout.height = 680;
        layout.xaxis.domain = layout.xaxis2.domain = [0, 1];
        layout.yaxis.domain = [0.57, 1];
        layout.yaxis2.domain = [0, 0.43];
      }
      window.Plotly.react(div, data, layout, { responsive: true, displaylogo: false,
        modeBarButtons: [["toImage"]] });
    }
  }
  draw();
  for (const query of ["(prefers-color-scheme: dark)", "print", "(max-width: 760px)"]) {
    window.matchMedia(query).addEventListener("change", draw);
  }
})();

// Sort a table when a button of its header is clicked. Numbers sort by value, empty cells last.
(function () {
  const order = new Intl.Collator(undefined, { numeric: true });
  for (const table of document.querySelectorAll("table[data-sortable]")) {
    const body = table.tBodies[0];
    const headers = [...table.tHead.rows[0].cells];
    const key = (row, column) => row.cells[column].dataset.v ?? row.cells[column].textContent.trim();
    headers.forEach((header, column) => {
      header.querySelector("button")?.addEventListener("click", () => {
        const down = header.getAttribute("aria-sort") === "ascending";
        for (const other of headers) other.removeAttribute("aria-sort");
        header.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...body.rows].map((row) => [key(row, column), row]);
        const numeric = rows.every(([value]) => value === "" || !Number.isNaN(Number(value)));
        rows.sort(([a], [b]) => {
          if (a === "" || b === "") return (a === "") - (b === "");
          const sign = numeric ? Number(a) - Number(b) : order.compare(a, b);
          return down ? -sign : sign;
        });
        body.append(...rows.map(([, row]) => row));
      });
    });
  }
  // Filter a table by the words in its box: rows that have them all stay.
  for (const filter of document.querySelectorAll("input[data-filter]")) {
    const table = document.getElementById(filter.dataset.filter);
    const shown = document.getElementById(`${filter.dataset.filter}-shown`);
    filter.addEventListener("input", () => {
      const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      let count = 0;
      for (const row of table.tBodies[0].rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        count += !row.hidden;
      }
      shown.textContent = `${count} of ${table.tBodies[0].rows.length} shown`;
    });
  }
})();

// Save a drawing as a picture: SVG as it is, PNG in twice its size on white.
(function () {
  const save = (name, address) => {
    const link = document.createElement("a");
    link.href = address;
    link.download = name;
    link.click();
  };
  for (const button of document.querySelectorAll("button[data-save]")) {
    button.addEventListener("click", () => {
      const drawing = button.closest("figure").querySelector("svg").cloneNode(true);
      drawing.setAttribute("color", "#000000");
      const source = new XMLSerializer().serializeToString(drawing);
      const address = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(source)}`;
      if (button.dataset.save.endsWith(".svg")) return save(button.dataset.save, address);
      const picture = new Image();
      picture.onload = () => {
        const canvas = document.createElement("canvas");
        canvas.width = 2 * picture.width;
        canvas.height = 2 * picture.height;
        const context = canvas.getContext("2d");
        context.fillStyle = "#ffffff";
        context.fillRect(0, 0, canvas.width, canvas.height);
        context.drawImage(picture, 0, 0, canvas.width, canvas.height);
        save(button.dataset.save, canvas.toDataURL("image/png"));
      };
      picture.src = address;
    });
  }
})();
