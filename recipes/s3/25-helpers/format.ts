/** How 3.25 shows dollars, months and times to people. */

const cents = { minimumFractionDigits: 2, maximumFractionDigits: 2 };
const two = (number: number) => number.toLocaleString('en', { maximumSignificantDigits: 2 });

/** Cents from a dollar on; small prices have many zeros, and then two digits that count. */
const dollars = (amount: number) => `$${amount < 1 ? two(amount) : amount.toLocaleString('en', cents)}`;

/** The fields that are dollars. */
export const money = { month: dollars, atLeast: dollars, read: dollars, early: dollars, now: dollars, move: dollars };

export const paysAfter = (months: number | null) => (months === null ? 'never' : `${two(months)} months`);

export const reads = (times: number | null) => (times === null ? 'any' : two(times));
