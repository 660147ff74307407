// @ts-check
import { t } from '../core/i18n.js';

/** A group's name: `*` is every site, the empty group holds sites without a place. @param {string} group */
export const groupName = (group) => (group === '*' ? t('all_groups') : group === '' ? t('no_group') : group);
