// @ts-check
// What the page offers. The server decides; this only keeps buttons away that would be refused.

/** @typedef {{user: {id: string, name: string}, grants: {group: string, role: string, until: string | null}[], rights: Record<string, string[]>,
 *   sites: Record<string, string>, purpose: null | {kind: string, case?: string, until: string}, language: string, demo: boolean}} Me */

/** Has the right for one site. @param {Me | null} me @param {string} right @param {string} site */
export function canAt(me, right, site) {
  const group = me?.sites?.[site];
  return group !== undefined && [group, '*'].some((g) => me?.rights?.[g]?.includes(right));
}
/** Has the right for some group. @param {Me | null} me @param {string} right */
export const can = (me, right) => Object.values(me?.rights ?? {}).some((list) => list.includes(right));

/** The purpose that holds now. @param {Me | null} me @param {number} now */
export function purposeNow(me, now) {
  const purpose = me?.purpose;
  if (!purpose) return null;
  const until = Date.parse(purpose.until ?? '');
  return Number.isFinite(until) && until <= now ? null : purpose;
}
export const ROLES = ['viewer', 'operator', 'evidence', 'admin', 'auditor'];
export const PURPOSES = ['duty', 'case', 'maintenance', 'supervision', 'data_subject', 'training'];
