// What moves: the overview, live, and its chart; and times, which are also told in the reader's own zone.
"use strict";

(() => {
	const live = document.querySelector("[data-live]");
	if (live) {
		watch(live);
	}
	localTimes(document);
	window.addEventListener("pageshow", (event) => {
		// A page that comes back from the cache of a browser may show what has changed since.
		if (event.persisted) {
			window.location.reload();
		}
	});

	// localTimes has a pointer that rests on a time see it in the reader's zone.
	function localTimes(within) {
		for (const time of within.querySelectorAll("time:not([title])")) {
			time.title = new Date(time.dateTime).toLocaleString();
		}
	}

	// watch keeps a part of the page as the server sees it. Nobody who looks elsewhere holds a connection: browsers
	// allow six of them for all tabs together.
	function watch(part) {
		const draw = chart();
		draw();
		let source = null;
		const follow = () => {
			if (document.hidden) {
				source?.close();
				source = null;
				return;
			}
			if (source) {
				return;
			}
			source = new EventSource(part.dataset.live);
			source.onmessage = (event) => {
				update(part, event.data);
				draw();
			};
			source.onerror = () => {
				// A browser that was refused does not try again by itself.
				if (source?.readyState === EventSource.CLOSED) {
					source = null;
					setTimeout(follow, 5000);
				}
			};
		};
		document.addEventListener("visibilitychange", follow);
		follow();
	}

	// update changes what differs. Only where there is more or less than before is all of it replaced, and the focus
	// comes back to where it was.
	function update(part, html) {
		const fresh = document.createElement("template");
		fresh.innerHTML = html; // the server's own page, in which everything is escaped
		const [old, now] = [byKey(part), byKey(fresh.content)];
		const same = old.size === now.size && [...now.keys()].every((key) => old.has(key)) && shape(part) === shape(fresh.content);
		if (!same) {
			const focused = document.activeElement?.dataset?.key;
			part.replaceChildren(fresh.content);
			localTimes(part);
			if (focused) {
				byKey(part).get(focused)?.focus();
			}
			return;
		}
		for (const [key, element] of now) {
			const shown = old.get(key);
			if (shown.className !== element.className) {
				shown.className = element.className;
			}
			for (const name of ["href", "hidden"]) {
				if (element.hasAttribute(name) && shown.getAttribute(name) !== element.getAttribute(name)) {
					shown.setAttribute(name, element.getAttribute(name));
				}
			}
			// What holds other parts is left alone: those are done by themselves.
			if (!element.querySelector("[data-key]") && shown.innerHTML !== element.innerHTML && !shown.contains(document.activeElement)) {
				shown.replaceChildren(...element.childNodes);
				localTimes(shown);
			} else if (shown.textContent !== element.textContent && !element.querySelector("*")) {
				shown.textContent = element.textContent;
			}
		}
	}

	function byKey(within) {
		return new Map([...within.querySelectorAll("[data-key]")].map((element) => [element.dataset.key, element]));
	}

	// shape is what is there apart from the parts that are updated by themselves.
	function shape(within) {
		return within.querySelectorAll("table, tr, h2, p, dl").length;
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
