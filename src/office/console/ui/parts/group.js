// @ts-check
import { t } from '../core/i18n.js';

/** A group's name: `*` is every site, none is the group of sites that nobody has placed. @param {string} group */
export const groupName = (group) => (group === '*' ? t('all_groups') : group === '' ? t('no_group') : group);
