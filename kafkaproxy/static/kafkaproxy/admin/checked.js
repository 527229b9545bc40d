// A page that says in words what it does, shows only the fields that count, and tells what is wrong while one types.
// The server does the thinking: the page sends itself to its check address and shows the answer. Nothing is saved by that.
"use strict";
{
    const DELAY_MS = 350;
    const PENDING = "…";

    const isFilled = control => control.type === "checkbox" ? control.checked
        : ["text", "textarea"].includes(control.type) && control.value.trim() !== "";

    const isShownAnyway = part => part.querySelector(".errorlist, tr.has_original")
        || [...part.querySelectorAll("input, textarea")]
            .some(control => !control.closest(".empty-form") && isFilled(control));

    // What does not count is hidden, but never while it holds something: it would be saved, or refused, unseen.
    const show = (part, counts) => { part.hidden = !(counts || isShownAnyway(part)); };

    function showWhatCounts(form) {
        const value = name => form.elements[name]?.value ?? "";
        const capability = value("capability");
        for (const part of form.querySelectorAll("[class*='kp-only-']")) {
            show(part.closest(".inline-group") ?? part, part.classList.contains(`kp-only-${capability}`));
        }
        const replies = capability === "produce" && value("reply_to").trim() !== "";
        const depends = {
            ".field-timeout": replies, ".field-correlation_header": replies,
            ".field-start_timestamp": value("start") === "timestamp",
        };
        for (const [selector, counts] of Object.entries(depends)) {
            const row = form.querySelector(selector);
            if (row) {
                show(row, counts);
            }
        }
        const asyncFields = document.getElementById("async_fields-group");
        if (asyncFields) {
            show(asyncFields, replies);
        }
    }

    function list(messages, className) {
        const made = document.createElement("ul");
        made.className = className;
        for (const message of messages) {
            const item = document.createElement("li");
            item.textContent = message;
            made.append(item);
        }
        return made;
    }

    const controlOf = (form, name) => {
        const found = form.elements[name] ?? form.elements[`${name}_0`];
        return found instanceof RadioNodeList ? found[0] : found;
    };

    // Where the errors of a name stand: its cell or row, a whole table, a row of one, or else below the sentence.
    function placeOf(form, name) {
        const control = controlOf(form, name);
        if (control) {
            return control.closest("td, .form-row");
        }
        if (name.endsWith("-group")) {
            return document.getElementById(name)?.querySelector(".inline-heading")?.parentElement;
        }
        return document.getElementById(name.replace(/-__all__$/, ""))?.querySelector("td:not(.original)");
    }

    class Page {
        constructor(form, output) {
            this.form = form;
            this.output = output;
            this.touched = new Set();
            this.remarks = list([], "kp-remarks");
            output.after(this.remarks);
        }

        follow() {
            const noticed = event => this.notice(event.target);
            // Django's jQuery sees the events of its select boxes, which are none of the browser's.
            django.jQuery(this.form).on("input change", noticed);
            for (const name of ["formset:added", "formset:removed"]) {
                document.addEventListener(name, noticed);
            }
        }

        notice(control) {
            this.touched.add(control.closest?.("td, .form-row"));
            showWhatCounts(this.form);
            clearTimeout(this.timer);
            this.timer = setTimeout(() => this.check(), DELAY_MS);
        }

        async check() {
            this.request?.abort();
            this.request = new AbortController();
            const {signal} = this.request;
            const request = {method: "POST", body: new FormData(this.form), signal, credentials: "same-origin"};
            try {
                const response = await fetch(this.output.dataset.checkUrl, request);
                if (response.ok) {
                    this.show(await response.json());
                }
            } catch (error) {
                if (error.name !== "AbortError") {
                    this.output.textContent = PENDING; // not reachable: saving will tell
                }
            }
        }

        show({sentence, errors, warnings}) {
            this.output.textContent = sentence || PENDING;
            this.clear();
            const general = [];
            for (const [name, messages] of Object.entries(errors)) {
                const place = placeOf(this.form, name);
                if (place) {
                    this.mark(place, name, messages);
                } else {
                    general.push(...messages);
                }
            }
            const remarks = list(warnings, "kp-remarks");
            remarks.append(...list(general, "").children);
            this.remarks.replaceWith(remarks);
            this.remarks = remarks;
            showWhatCounts(this.form);
        }

        clear() {
            for (const place of this.form.querySelectorAll("td, .form-row")) {
                const own = place.querySelector(":scope > .errorlist, :scope > * > .errorlist");
                if (own && (own.classList.contains("kp-live") || this.touched.has(place))) {
                    own.remove();
                    place.classList.remove("errors");
                }
            }
            for (const left of this.form.querySelectorAll(".kp-live")) {
                left.remove();
            }
            for (const control of this.form.querySelectorAll("[data-kp-invalid]")) {
                control.removeAttribute("aria-invalid");
                control.removeAttribute("aria-errormessage");
                delete control.dataset.kpInvalid;
            }
        }

        mark(place, name, messages) {
            place.querySelector(".errorlist")?.remove();
            const errors = list(messages, "errorlist kp-live");
            errors.id = `kp-error-${name}`;
            if (place.matches(".form-row")) {
                place.classList.add("errors");
            }
            const heading = place.querySelector(":scope > .inline-heading");
            if (heading) {
                heading.after(errors);
            } else {
                place.prepend(errors);
            }
            const control = controlOf(this.form, name);
            if (control) {
                control.setAttribute("aria-invalid", "true");
                control.setAttribute("aria-errormessage", errors.id);
                control.dataset.kpInvalid = "";
            }
        }
    }

    document.addEventListener("DOMContentLoaded", () => {
        const output = document.getElementById("kp-sentence");
        const form = output?.closest("form");
        if (form) {
            showWhatCounts(form);
            if (form.querySelector("[name=_save]")) { // those who may only look have nothing to check
                new Page(form, output).follow();
            }
        }
    });
}
