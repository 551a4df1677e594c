// Draws the figures of the page: each when it comes near, in the colours of the style sheet, again when those change.
"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const color = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const isCoarse = matchMedia("(pointer: coarse)").matches;

  // "var(--text)" anywhere in a figure stands for what the style sheet says now; several colours are a scale.
  const colors = (name) => {
    const found = color(name).split(" ");
    return found.length > 1 ? found.map((part, number) => [number / (found.length - 1), part]) : found[0];
  };
  const themed = (value) => {
    if (typeof value === "string") return /^var\(--[a-z0-9-]+\)$/.test(value) ? colors(value.slice(4, -1)) : value;
    if (Array.isArray(value)) return typeof value[0] === "number" ? value : value.map(themed);
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, themed(part)]));
    }
    return value;
  };

  const axis = () => ({
    automargin: true, gridcolor: color("--line"), linecolor: color("--line"), zerolinecolor: color("--line"),
    title: { standoff: 10, font: { size: 13 } }, showline: true, zeroline: false, ticks: "",
  });
  const template = () => ({
    layout: {
      font: { family: getComputedStyle(document.body).fontFamily, size: 12.5, color: color("--soft") },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      colorway: [0, 1, 2, 3, 4, 5].map((number) => color(`--series-${number}`)),
      // Labels of ticks at the ends must fit in here, or plotly cannot place the title below them.
      margin: { l: 48, r: 28, t: 8, b: 40 }, xaxis: { ...axis(), showgrid: false }, yaxis: axis(),
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", xanchor: "left", font: { size: 12 } },
      hoverlabel: { bgcolor: color("--card"), bordercolor: color("--line"), font: { color: color("--text") } },
      hovermode: "x unified", dragmode: isCoarse ? false : "zoom",
    },
  });
  const config = { displayModeBar: false, responsive: true, showTips: false };

  const draw = (plot, figure) => {
    const layout = { ...themed(figure.layout), template: template(), autosize: true };
    return Plotly.react(plot, themed(figure.data), layout, config);
  };

  // ---------------------------------------------------------------------------------------------- figures

  const figures = [...document.querySelectorAll("figure.card")].map((card) => {
    const plot = card.querySelector(".plot");
    const figure = JSON.parse(card.querySelector("script").textContent);
    const name = figure.name.replace(/[^\p{L}\p{N}]+/gu, "-").toLowerCase();
    card.querySelector(".save").addEventListener("click", async () => {
      await draw(plot, figure);
      const size = { width: plot.clientWidth, height: plot.clientHeight };
      Plotly.downloadImage(plot, { format: "svg", filename: name, ...size });
    });
    return { plot, show: () => draw(plot, figure) };
  });

  // ---------------------------------------------------------------------------------------------- 3-D frames

  // A sphere as triangles: an octahedron whose faces are divided twice.
  const sphere = (() => {
    const corners = [[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]];
    let faces = [[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]];
    const known = new Map();
    const between = (a, b) => {
      const edge = a < b ? `${a} ${b}` : `${b} ${a}`;
      if (!known.has(edge)) {
        const middle = corners[a].map((value, axis) => value + corners[b][axis]);
        const length = Math.hypot(...middle);
        known.set(edge, corners.push(middle.map((value) => value / length)) - 1);
      }
      return known.get(edge);
    };
    for (let round = 0; round < 2; round += 1) {
      faces = faces.flatMap(([a, b, c]) => {
        const [ab, bc, ca] = [between(a, b), between(b, c), between(c, a)];
        return [[a, ab, ca], [ab, b, bc], [ca, bc, c], [ab, bc, ca]];
      });
    }
    return { corners, faces };
  })();
  // Atoms a little smaller than their covalent radius, so that one sees between them.
  const SHRINK = 0.8;

  const atoms = (frame) => {
    const mesh = {
      type: "mesh3d", x: [], y: [], z: [], i: [], j: [], k: [], intensity: [], text: [], hoverinfo: "text",
      colorscale: "var(--errors)", cmin: 0, cmax: Math.max(...frame.errors, 1), flatshading: false,
      lighting: { ambient: 0.55, diffuse: 0.7, specular: 0.25, roughness: 0.5, fresnel: 0.1 },
      colorbar: { title: { text: "force error<br>meV/Å", font: { size: 12.5 } }, thickness: 10, len: 0.8, outlinewidth: 0 },
    };
    frame.positions.forEach((position, atom) => {
      const first = mesh.x.length;
      const radius = SHRINK * frame.radii[atom];
      for (const corner of sphere.corners) {
        mesh.x.push(position[0] + radius * corner[0]);
        mesh.y.push(position[1] + radius * corner[1]);
        mesh.z.push(position[2] + radius * corner[2]);
        mesh.intensity.push(frame.errors[atom]);
        mesh.text.push(`${frame.symbols[atom]} ${atom}: ${frame.errors[atom]} meV/Å`);
      }
      for (const [a, b, c] of sphere.faces) {
        mesh.i.push(first + a);
        mesh.j.push(first + b);
        mesh.k.push(first + c);
      }
    });
    return mesh;
  };

  const box = (frame) => {
    const [x, y, z] = [[], [], []];
    const corner = (bits) => [0, 1, 2].map((axis) => bits.reduce((sum, bit, n) => sum + bit * frame.cell[n][axis], 0));
    for (let start = 0; start < 8; start += 1) {
      const bits = [start & 1, (start >> 1) & 1, (start >> 2) & 1];
      bits.forEach((bit, along) => {
        if (bit) return;
        const end = bits.map((value, n) => (n === along ? 1 : value));
        for (const [place, list] of [[0, x], [1, y], [2, z]]) {
          list.push(corner(bits)[place], corner(end)[place], null);
        }
      });
    }
    const line = { color: color("--soft"), width: 3 };
    return { type: "scatter3d", mode: "lines", x, y, z, line, hoverinfo: "skip", showlegend: false };
  };

  const viewer = document.querySelector(".viewer");
  if (viewer) {
    const frames = JSON.parse(viewer.querySelector("script").textContent);
    const [plot, select] = [viewer.querySelector(".plot"), viewer.querySelector("select")];
    const said = viewer.querySelector(".said");
    const hidden = { visible: false };
    const show = () => {
      const frame = frames[Number(select.value)];
      const scene = {
        xaxis: hidden, yaxis: hidden, zaxis: hidden, aspectmode: "data", dragmode: "turntable",
        camera: { eye: { x: 0.95, y: 0.55, z: 0.4 }, projection: { type: "orthographic" } },
      };
      const worst = Math.max(...frame.errors);
      const words = `${select.selectedOptions[0].textContent}; the worst atom is off by ${Math.round(worst)} meV/Å.`;
      plot.setAttribute("aria-label", `In three dimensions: ${words}`);
      said.textContent = words;
      return draw(plot, { data: [atoms(frame), box(frame)], layout: { scene, hovermode: "closest" } });
    };
    select.addEventListener("change", show);
    for (const button of viewer.querySelectorAll("button")) {
      button.addEventListener("click", () => {
        const next = Number(select.value) + Number(button.dataset.step) + frames.length;
        select.value = String(next % frames.length);
        show();
      });
    }
    figures.push({ plot, show });
  }

  // ---------------------------------------------------------------------------------------------- when

  const drawn = new Set();
  const reveal = (figure) => {
    if (drawn.has(figure)) return;
    drawn.add(figure);
    figure.show();
  };
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      watcher.unobserve(entry.target);
      reveal(figures.find((figure) => figure.plot === entry.target));
    }
  }, { rootMargin: "300px" });
  figures.forEach((figure) => watcher.observe(figure.plot));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn.forEach((figure) => figure.show()));
  addEventListener("beforeprint", () => figures.forEach(reveal));
})();
