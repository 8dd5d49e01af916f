// What moves: the overview, live, and its chart; and times, which are also told in the reader's own zone.
"use strict";

(() => {
	const live = document.querySelector("[data-live]");
	if (live) {
		watch(live);
	}
	localTimes(document);
	window.addEventListener("pageshow", (event) => {
		// A page that comes back from the cache of a browser may show what has changed since. To load what a form was
		// answered with would send the form again.
		if (event.persisted && !("posted" in document.body.dataset)) {
			window.location.reload();
		}
	});

	// localTimes has a pointer that rests on a time see it in the reader's zone.
	function localTimes(within) {
		for (const time of within.querySelectorAll("time")) {
			const title = new Date(time.dateTime).toLocaleString();
			if (time.title !== title) {
				time.title = title;
			}
		}
	}

	// watch keeps a part of the page as the server sees it, and tells since when it does not. Nobody who looks elsewhere
	// holds a connection: browsers allow six of them for all tabs together.
	function watch(part) {
		const [asOf, notLive] = [document.querySelector("#as-of time"), document.getElementById("not-live")];
		const draw = chart();
		draw();
		let source = null;
		let silence = 0;
		const leave = () => {
			clearTimeout(silence);
			source?.close();
			source = null;
		};
		const lost = () => {
			part.classList.add("stale");
			if (!notLive.firstChild) {
				const [said, again] = [document.createElement("p"), document.createElement("a")];
				said.className = "trouble";
				again.href = "";
				again.textContent = "Load the page again";
				said.append(`Not live since ${asOf.textContent}: what stands here may be old. `, again);
				notLive.replaceChildren(said);
			}
		};
		// A connection that broke silently is not told by the browser. The server says something every two seconds, or
		// later where it has to wait for what it tells.
		const listen = () => {
			clearTimeout(silence);
			silence = setTimeout(() => {
				leave();
				lost();
				follow();
			}, 20000);
		};
		const follow = () => {
			if (document.hidden) {
				leave();
				return;
			}
			if (source) {
				return;
			}
			source = new EventSource(part.dataset.live);
			listen();
			source.onmessage = (event) => {
				update(part, event.data);
				draw();
			};
			source.addEventListener("as-of", (event) => {
				listen();
				asOf.dateTime = event.data;
				asOf.textContent = event.data.replace("T", " ").replace("Z", "");
				localTimes(document);
				part.classList.remove("stale");
				notLive.replaceChildren();
			});
			source.onerror = () => {
				lost();
				// A browser that was refused does not try again by itself.
				if (source?.readyState === EventSource.CLOSED) {
					leave();
					setTimeout(follow, 5000);
				}
			};
		};
		document.addEventListener("visibilitychange", follow);
		follow();
	}

	// update changes what differs, and nothing else: the focus stays, and how far a table is scrolled.
	function update(part, html) {
		const fresh = document.createElement("template");
		fresh.innerHTML = html; // the server's own page, in which everything is escaped
		const focused = document.activeElement;
		become(part, fresh.content);
		localTimes(part);
		if (part.contains(focused)) {
			focused.focus({ preventScroll: true }); // it is lost where a row moves
		}
	}

	// become gives a node the children of another. Rows are known by their names, and all else by where it stands.
	function become(old, now) {
		const name = (node) => node.dataset?.row;
		const named = (nodes) => new Map([...nodes].filter((node) => name(node) !== undefined).map((node) => [name(node), node]));
		const [rows, left] = [named(old.childNodes), named(now.childNodes)];
		for (const [key, row] of rows) {
			if (!left.has(key)) {
				row.remove();
			}
		}
		let at = old.firstChild;
		for (const node of [...now.childNodes]) {
			const known = name(node) === undefined ? at : rows.get(name(node));
			if (!known || known.nodeName !== node.nodeName || name(known) !== name(node)) {
				old.insertBefore(node, at);
				continue;
			}
			if (known === at) {
				at = at.nextSibling;
			} else {
				old.insertBefore(known, at);
			}
			if (node.nodeType !== Node.ELEMENT_NODE) {
				if (known.data !== node.data) {
					known.data = node.data;
				}
				continue;
			}
			for (const { name, value } of node.attributes) {
				if (known.getAttribute(name) !== value) {
					known.setAttribute(name, value);
				}
			}
			for (const { name } of [...known.attributes]) {
				if (!node.hasAttribute(name) && name !== "title") { // that one is localTimes'
					known.removeAttribute(name);
				}
			}
			become(known, node);
		}
		while (at) {
			const next = at.nextSibling;
			at.remove();
			at = next;
		}
	}

	// chart returns what draws it, and draws it anew.
	function chart() {
		const place = document.getElementById("chart");
		let plot = null;
		let drawn = "";
		const size = () => ({ width: Math.max(place.clientWidth, 240), height: 235 });
		const build = () => {
			plot?.destroy();
			plot = null;
			const text = document.getElementById("points")?.textContent ?? "[]";
			const points = JSON.parse(text);
			drawn = text;
			if (points.length === 0 || typeof uPlot === "undefined") {
				place.textContent = "Not known.";
				return;
			}
			place.textContent = "";
			const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
			const font = "12px system-ui, sans-serif";
			const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font };
			const line = (label, name, dash) => ({ label, stroke: colour(name), width: 2, dash, points: { show: false } });
			plot = new uPlot({
				...size(),
				tzDate: (ts) => uPlot.tzDate(new Date(ts * 1000), "UTC"),
				scales: { y: { range: (_, min, max) => [0, Math.max(5, max * 1.1)] } },
				axes: [{ ...axis, values: "{HH}:{mm}" }, { ...axis, size: 52, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 1e6, 1e7] }],
				series: [
					{ label: "UTC", value: "{YYYY}-{MM}-{DD} {HH}:{mm}" },
					line("confirmed", "--chart-good"),
					line("failed by timeout", "--chart-bad", [6, 3]),
					line("failed otherwise", "--chart-other", [2, 3]),
				],
			}, points, place);
			const sum = (values) => values.reduce((a, b) => a + b, 0);
			const canvas = place.querySelector("canvas");
			canvas.setAttribute("role", "img");
			canvas.setAttribute("aria-label", `Logs in steps of ten minutes over 24 hours: ${sum(points[1])} confirmed, ${sum(points[2])} failed by timeout, ${sum(points[3])} failed otherwise.`);
		};
		new ResizeObserver(() => plot && plot.width !== size().width && plot.setSize(size())).observe(place);
		matchMedia("(prefers-color-scheme: dark)").addEventListener("change", build);
		return () => {
			if (!plot || document.getElementById("points")?.textContent !== drawn) {
				build();
			}
		};
	}
})();
