// The report's own behaviour: theme, tips of charts, and the pair browser. Text reaches the page by textContent alone.
"use strict";
(() => {
  const get = (id) => document.getElementById(id);
  const make = (tag, className, text) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };

  // Theme: what the system says, until a person says otherwise.
  const themes = ["system", "light", "dark"];
  const theme = get("theme");
  const setTheme = (name) => {
    if (name === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    theme.textContent = `Theme: ${name}`;
    theme.dataset.name = name;
  };
  theme.hidden = false;
  setTheme("system");
  theme.addEventListener("click", () => setTheme(themes[(themes.indexOf(theme.dataset.name) + 1) % themes.length]));

  // Tips: every mark of a chart carries its own numbers.
  const tip = get("tip");
  document.addEventListener("pointermove", (event) => {
    const target = event.target instanceof Element ? event.target : null;
    const mark = target && target.closest(".chart [role=graphics-symbol][aria-label]");
    const frame = mark && ["axis", "legend"].includes(mark.getAttribute("aria-roledescription"));
    const words = mark && !frame ? mark.getAttribute("aria-label") : "";
    tip.hidden = !words;
    if (!words) return;
    tip.textContent = words;
    tip.style.left = `${Math.max(4, Math.min(event.clientX + 12, innerWidth - tip.offsetWidth - 4))}px`;
    tip.style.top = `${Math.max(4, event.clientY - tip.offsetHeight - 10)}px`;
  });

  const groups = JSON.parse(get("groups").textContent);
  if (!groups.length || !get("filters")) return;
  const PAGE = 200;
  const rightToLeft = new Set(["ar", "dv", "fa", "he", "ku", "ps", "sd", "ug", "ur", "yi"]);
  const number = (value) => (value === undefined || value === null ? "–" : String(Number(value.toPrecision(4))));
  for (const group of groups) {
    const side = (kind) => group.r.find((response) => response.k === kind);
    const [chosen, rejected] = [side("chosen"), side("rejected")];
    if (chosen && rejected) group.gap = chosen.c - rejected.c;
  }

  const fill = (id, values, all) => {
    const select = get(id);
    select.append(new Option(all, ""));
    for (const value of values) select.append(new Option(value, value));
  };
  const distinct = (key) => [...new Set(groups.map((group) => group[key]))];
  fill("iteration", distinct("i").sort((a, b) => a - b), "all");
  fill("language", distinct("l"), "all");
  fill("outcome", distinct("o").sort(), "all");

  const words = new Map(); // of each group, in lower case; made when it is first searched
  const haystack = (group) => {
    if (!words.has(group)) {
      const parts = [group.id, group.p, group.e || "", ...group.r.map((response) => response.t)];
      words.set(group, parts.join("\n").toLocaleLowerCase());
    }
    return words.get(group);
  };

  let sort = { key: "", down: false };
  let found = [];
  let shown = PAGE;
  let open = null;

  const bound = (id) => (get(id).value === "" ? null : Number(get(id).value));
  const filter = () => {
    const [iteration, language, outcome] = ["iteration", "language", "outcome"].map((id) => get(id).value);
    const [low, high] = [bound("margin-low"), bound("margin-high")];
    const asked = get("search").value.toLocaleLowerCase().split(/\s+/).filter(Boolean);
    found = groups.filter(
      (group) =>
        (!iteration || String(group.i) === iteration) &&
        (!language || group.l === language) &&
        (!outcome || group.o === outcome) &&
        (low === null || (group.m !== undefined && group.m >= low)) &&
        (high === null || (group.m !== undefined && group.m <= high)) &&
        asked.every((word) => haystack(group).includes(word)),
    );
    if (sort.key) found.sort(compare);
    shown = PAGE;
    draw();
  };
  const compare = (a, b) => {
    const [x, y] = [a[sort.key], b[sort.key]];
    if (x === undefined || y === undefined) return (x === undefined) - (y === undefined); // unknown ones last
    const order = typeof x === "number" ? x - y : String(x).localeCompare(String(y), undefined, { numeric: true });
    return sort.down ? -order : order;
  };

  const rows = get("rows");
  const draw = () => {
    rows.replaceChildren(...found.slice(0, shown).map(row));
    get("more").hidden = shown >= found.length;
    get("found").textContent = `${found.length} of ${groups.length} groups`;
  };
  const row = (group) => {
    const line = make("tr", group === open ? "open" : "");
    const name = make("th");
    name.scope = "row";
    const button = make("button", "", group.id);
    button.type = "button";
    button.dir = "auto";
    if (group === open) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => show(group));
    name.append(button);
    line.append(name, make("td", "", group.l), make("td", "", group.i), make("td", "", group.o));
    line.append(make("td", "", number(group.m)), make("td", "", number(group.gap)));
    return line;
  };

  const detail = get("detail");
  const textOf = (value, language) => {
    const element = make("div", "text", value);
    element.dir = rightToLeft.has(language.split("-")[0]) ? "rtl" : "auto";
    element.lang = language;
    return element;
  };
  const show = (group, focus = true) => {
    open = group;
    const head = make("h3", "", group.id);
    head.dir = "auto";
    const facts = make("dl");
    const fact = (name, value) => {
      const given = make("dd");
      given.append(value);
      facts.append(make("dt", "", name), given);
    };
    fact("prompt", textOf(group.p, group.l));
    if (group.e !== undefined) fact("English twin", textOf(group.e, "en"));
    if (group.v) fact("judged by", group.u ? textOf(`${group.v}: ${group.u}`, "en") : group.v);
    fact("where", `iteration ${group.i}, ${group.l}`);
    const alpha = group.a ? ` at α = ${number(group.a)}` : "";
    fact("outcome", group.o === "pair" ? `pair, margin ${number(group.m)}${alpha}` : `no pair: ${group.o}`);
    detail.replaceChildren(head, facts, ...group.r.map((response, rank) => card(response, rank, group.l)));
    draw();
    if (focus) {
      detail.focus({ preventScroll: true });
      if (matchMedia("(max-width: 48rem)").matches) detail.scrollIntoView();
    }
  };
  const card = (response, rank, language) => {
    const element = make("div", `response ${response.k || ""}`);
    const title = make("h4", "", `${rank + 1}. ${response.k ? `${response.k.toUpperCase()} ` : ""}`);
    const numbers = [`score ${number(response.s)}`];
    if (response.lp !== undefined) numbers.push(`log π ${number(response.lp)}, log π_ref ${number(response.lr)}`);
    if (response.x) numbers.push(`penalty ${number(response.x)}`);
    if (response.w) numbers.push(`${response.w} tokens`);
    numbers.push(`${response.c} characters`);
    if (response.f) numbers.push("cut at the longest length");
    title.append(make("span", "numbers", numbers.join(" · ")));
    const translated = response.j !== undefined; // then tokens are those of the translation, which was judged
    element.append(title, response.g && !translated ? shaded(response.g, language) : textOf(response.t, language));
    if (translated) {
      element.append(make("div", "note", "judged as:"));
      element.append(response.g ? shaded(response.g, "en") : textOf(response.j, "en"));
    }
    return element;
  };
  const shaded = (tokens, language) => {
    const whole = make("div");
    const text = textOf("", language);
    const largest = Math.max(...tokens.map(([, value]) => Math.abs(value)), 1e-9);
    for (const [piece, value] of tokens) {
      const token = make("span", `token ${value >= 0 ? "up" : "down"}`, piece || "⏹");
      token.style.setProperty("--heat", String(Math.abs(value) / largest));
      token.title = `${number(value)} nats`;
      text.append(token);
    }
    const note = `Shading: log-ratio by token, blue raises, orange lowers; darkest ${number(largest)} nats; ⏹ end of turn.`;
    whole.append(text, make("div", "note", note));
    return whole;
  };

  const step = (by) => {
    if (!found.length) return;
    const at = found.indexOf(open);
    const next = at < 0 ? (by > 0 ? 0 : found.length - 1) : Math.max(0, Math.min(found.length - 1, at + by));
    shown = Math.max(shown, next + 1);
    show(found[next], false);
    const current = rows.querySelector("tr.open button");
    if (current) current.focus();
  };

  let waiting = 0;
  const soon = () => {
    clearTimeout(waiting);
    waiting = setTimeout(filter, 80);
  };
  get("filters").addEventListener("input", soon);
  get("search").addEventListener("search", soon); // Escape empties the box, and some browsers call that no input
  get("filters").addEventListener("reset", () => setTimeout(filter, 0));
  get("filters").addEventListener("submit", (event) => event.preventDefault());
  get("more").addEventListener("click", () => {
    shown += PAGE;
    draw();
  });
  for (const button of document.querySelectorAll("[data-sort]")) {
    button.addEventListener("click", () => {
      const key = button.dataset.sort;
      sort = { key, down: sort.key === key ? !sort.down : false };
      for (const other of document.querySelectorAll("[data-sort]")) {
        const direction = other === button ? (sort.down ? "descending" : "ascending") : "none";
        other.closest("th").setAttribute("aria-sort", direction);
      }
      filter();
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target instanceof Element && event.target.matches("input, select, textarea");
    if (event.key === "Escape" && typing) return event.target.blur();
    if (typing) return;
    const inside = event.target instanceof Element && event.target.closest(".browser");
    if (event.key === "/") {
      event.preventDefault();
      get("search").focus();
    } else if (event.key === "j" || (inside && event.key === "ArrowDown")) {
      event.preventDefault();
      step(1);
    } else if (event.key === "k" || (inside && event.key === "ArrowUp")) {
      event.preventDefault();
      step(-1);
    }
  });

  filter();
  show(found[0], false);
})();
