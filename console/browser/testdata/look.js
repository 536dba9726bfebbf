// What the tests ask a page for. Each function returns a list of complaints.
(() => {
	const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
	const known = new Map();

	// rgba returns any color of CSS as four numbers.
	function rgba(color) {
		if (!known.has(color)) {
			canvas.clearRect(0, 0, 1, 1);
			canvas.fillStyle = color;
			canvas.fillRect(0, 0, 1, 1);
			const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
			known.set(color, [r, g, b, a / 255]);
		}
		return known.get(color);
	}

	const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);

	// behind returns the color that is seen behind the text of an element.
	function behind(element) {
		const layers = [];
		for (let e = element; e; e = e.parentElement) {
			layers.push(rgba(getComputedStyle(e).backgroundColor));
		}
		const dark = getComputedStyle(document.documentElement).colorScheme.includes("dark") && matchMedia("(prefers-color-scheme: dark)").matches;
		return layers.reverse().reduce((below, top) => over(top, below), dark ? [18, 18, 18, 1] : [255, 255, 255, 1]);
	}

	function luminance(color) {
		const [r, g, b] = color.slice(0, 3).map(c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
		return 0.2126 * r + 0.7152 * g + 0.0722 * b;
	}

	function ratio(a, b) {
		const [dark, light] = [luminance(a), luminance(b)].sort((x, y) => x - y);
		return (light + 0.05) / (dark + 0.05);
	}

	function opacity(element) {
		let all = 1;
		for (let e = element; e; e = e.parentElement) {
			all *= getComputedStyle(e).opacity;
		}
		return all;
	}

	const visible = e => e.checkVisibility({ visibilityProperty: true }) && e.getClientRects().length > 0;
	const name = e => `<${e.tagName.toLowerCase()}${e.id && "#" + e.id}${e.className && "." + e.className}> ${(e.textContent || e.value || "").trim().slice(0, 40)}`;

	// contrast complains of text that WCAG AA finds hard to read.
	function contrast() {
		const elements = new Set(document.querySelectorAll("input:not([type=hidden]):not([type=checkbox]):not([type=radio]), select, textarea"));
		const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
		while (walker.nextNode()) {
			if (walker.currentNode.data.trim() && !["SCRIPT", "STYLE", "NOSCRIPT", "OPTION"].includes(walker.currentNode.parentElement.tagName)) {
				elements.add(walker.currentNode.parentElement);
			}
		}
		const complaints = [];
		for (const e of elements) {
			if (!visible(e) || e.disabled) {
				continue;
			}
			const style = getComputedStyle(e), back = behind(e), color = [...rgba(style.color)];
			color[3] *= opacity(e);
			const size = parseFloat(style.fontSize), large = size >= 24 || size >= 18.66 && style.fontWeight >= 700;
			const is = ratio(over(color, back), back);
			if (is < (large ? 3 : 4.5)) {
				complaints.push(`contrast ${is.toFixed(2)}: ${name(e)}`);
			}
		}
		return complaints;
	}

	// overflow complains of a page that is wider than its window.
	function overflow() {
		const room = document.documentElement.clientWidth;
		if (document.documentElement.scrollWidth <= room) {
			return [];
		}
		const wide = [...document.querySelectorAll("body *")].filter(e => visible(e) && e.getBoundingClientRect().right > room + 1);
		return [`${document.documentElement.scrollWidth} of ${room} pixels: ${wide.slice(0, 3).map(name).join("; ")}`];
	}

	// controls returns what is to be reached with the keyboard, in the order of the page.
	function controls() {
		const radios = new Set();
		return [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary")].filter(e => {
			if (e.disabled || !visible(e) || e.tabIndex < 0 && e.matches("a.skip")) {
				return false;
			}
			if (e.type !== "radio") {
				return true;
			}
			const chosen = [...document.getElementsByName(e.name)].filter(r => r.form === e.form && r.checked);
			const group = (e.form ? e.form.id : "") + e.name, first = !radios.has(group) && (chosen.length === 0 || chosen[0] === e);
			first && radios.add(group);
			return first;
		});
	}

	let expected = [], reached = [], unseen = [];

	// startKeyboard has the page note what gets the focus.
	function startKeyboard() {
		expected = controls();
		reached = [];
		document.activeElement.blur();
		unseen = [];
		document.addEventListener("focusin", e => {
			reached.push(e.target);
			const style = getComputedStyle(e.target);
			if (style.outlineStyle === "none" && style.boxShadow === "none") {
				unseen.push(`the focus cannot be seen: ${name(e.target)}`);
			}
		}, true);
		return expected.length;
	}

	// endKeyboard complains of what the keyboard did not reach, and of a focus that cannot be seen.
	function endKeyboard() {
		const complaints = [...unseen];
		let last = -1;
		for (const e of expected) {
			const at = reached.indexOf(e);
			if (at < 0) {
				complaints.push(`not reached: ${name(e)}`);
			} else if (at < last) {
				complaints.push(`reached before what is in front of it: ${name(e)}`);
			}
			last = Math.max(last, at);
		}
		return complaints;
	}

	return { contrast, overflow, startKeyboard, endKeyboard };
})()
