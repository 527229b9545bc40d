// On a narrow screen the cells of inline rows and of lists stand one below the other (admin.css), each with its column's name.
"use strict";
{
    const label = (table, rows, first) => {
        const names = [...table.tHead.rows[0].cells].map(cell => (cell.querySelector(".text") ?? cell).textContent.trim());
        for (const row of rows) {
            [...row.cells].forEach((cell, index) => {
                if (index >= first) {
                    cell.dataset.column = names[index];
                }
            });
        }
    };

    document.addEventListener("DOMContentLoaded", () => {
        for (const table of document.querySelectorAll(".tabular.inline-related table")) {
            label(table, table.querySelectorAll("tr.form-row"), 1); // the empty one too: new rows are copies of it
        }
        const list = document.querySelector("table#result_list");
        if (list) {
            label(list, list.tBodies[0].rows, list.querySelector("th.action-checkbox-column") ? 2 : 1);
        }
    });
}
