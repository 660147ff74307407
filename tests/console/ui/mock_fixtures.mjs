// Drawn fixtures of the console's API: sites, events, health, files. Nothing here shows a real place.
const HOUR = 3600000;
export const iso = (t) => new Date(t).toISOString();

const NAMES = [
  ['km-17', 'Ngã tư chợ', 'Market junction', 'ok', { code: 'recording', args: {} }, 'online', 'ntp'],
  ['km-19', 'Cầu Đen', 'Black bridge', 'warn', { code: 'backlog_old', args: { bytes: 412000000 } }, 'online', 'camera'],
  ['km-21', 'Dốc Đỏ', 'Red slope', 'fault', { code: 'lost', args: {} }, 'lost', 'rtc'],
  ['km-23', 'Trường tiểu học Hồng Thái', 'Hồng Thái primary school', 'ok', { code: 'recording', args: {} }, 'online', 'ntp'],
  ['km-25', 'Ngõ 7 thôn Đông', 'Lane 7, east hamlet', 'warn', { code: 'card_worn', args: { percent: 83 } }, 'online', 'ntp'],
  ['km-27', 'Bến đò', 'Ferry landing', 'unknown', { code: 'never_heard', args: {} }, '', ''],
  ['km-29', 'Uỷ ban xã', 'Commune office', 'ok', { code: 'recording', args: {} }, 'online', 'ntp'],
  ['km-31', 'Kho \u202Egpj.lỗ', 'Store \u0007 east', 'fault', { code: 'camera_down', args: { fault: 'unauthorized' } }, 'online', 'ntp'],
  ['km-33', 'Đường vành đai', 'Ring road', 'ok', { code: 'recording', args: {} }, 'online', 'unset'],
];

export function makeSites(now) {
  return NAMES.map(([site, name_vi, name_en, state, reason, presence, clock], i) => ({
    site, name_vi, name_en, group: i < 6 ? 'hong-thai' : 'ven-song', state, reason: { ...reason, args: { ...reason.args, ...(['lost', 'backlog_old'].includes(reason.code) ? { since: iso(now - 41 * 60000) } : {}) } },
    seen: presence ? iso(now - (presence === 'lost' ? 41 * 60000 : 12000 + i * 3000)) : null, presence, recording: presence === 'online', clock,
    snapshot: presence ? { fid: `s${i}`, time: iso(now - (i === 2 ? 41 * 60000 : (20 + i * 31) * 1000)) } : null,
    backlog_bytes: i === 1 ? 412000000 : i === 4 ? 900000 : 0, backlog_since: i === 1 ? iso(now - 2.2 * HOUR) : null, card_worn_percent: presence ? [12, 31, 44, 9, 83, 0, 97, 20, 7][i] : null,
    missing_seq: i === 1 ? 14 : 0, gaps_today: { count: i === 2 ? 2 : i === 4 ? 1 : 0, seconds: i === 2 ? 2820 : i === 4 ? 93 : 0 },
    sim: i % 3 === 0 ? { today: 212e6 + i * 70e6, day_budget: 600e6, month: 4.2e9, month_budget: 12e9 } : null, version: '0.1.0 (c5a5646)',
  }));
}

export function makeEvents(now, count) {
  const out = [];
  for (let i = 0; i < count; i++) {
    const site = NAMES[[0, 1, 3, 4, 6][i % 5]][0];
    const start = now - i * 47000 - 60000;
    const open = i === 0;
    out.push({
      id: `e${count - i}`, site, start: iso(start), end: open ? null : iso(start + 12000), clock: ['ntp', 'camera', 'rtc'][i % 3], rule: ['cổng', 'vạch A', 'qua đường'][i % 3], zones: i % 2 ? ['làn phải'] : [], priority: '', direction: i % 4 ? (i * 45) % 360 : null,
      score: 0.55 + (i % 40) / 100, seconds: open ? null : 12, state: open ? 'open' : 'closed', clip: i % 7 ? `c${i}` : null, snapshot: i % 9 ? `s${i % 9}` : null,
      handled: i % 6 === 5 ? { by: 'tran.van.b', at: iso(start + 90000), verdict: ['real', 'false_alarm', 'none'][i % 3], note: 'Đã gọi tổ dân phố' } : null,
    });
  }
  return out;
}

/** A picture of a scene that is plainly drawn, as SVG would be; here a small PNG-free BMP-like JPEG is not needed: SVG is served. */
export const drawnPicture = (n) => `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 320 180" width="640" height="360"><rect width="320" height="180" fill="hsl(${200 + n * 17} 30% ${n % 2 ? 22 : 62}%)"/>
<path d="M120 60L0 180h320L200 60z" fill="#555"/><path d="M158 60l-8 120h20z" fill="#ddd" stroke-dasharray="9"/><rect y="40" width="110" height="40" fill="#7a5"/><rect x="215" y="30" width="105" height="50" fill="#975"/>
<rect x="${120 + n * 9}" y="${95 + n * 4}" width="46" height="24" rx="6" fill="hsl(${n * 70} 60% 45%)"/><circle cx="${130 + n * 9}" cy="${119 + n * 4}" r="6"/><circle cx="${156 + n * 9}" cy="${119 + n * 4}" r="6"/></svg>`;

export function makeHealth(from, to, step) {
  const t = [];
  const series = { rate: [], backlog: [], wear: [], used: [], lost_packets: [] };
  for (let at = from; at <= to; at += step) {
    const i = t.length;
    const gap = i > 60 && i < 75;
    t.push(at);
    series.rate.push(gap ? null : Math.round(90000 + 60000 * Math.sin(i / 13)));
    series.backlog.push(gap ? null : Math.max(0, Math.round(4e7 * Math.sin(i / 40))));
    series.wear.push(gap ? null : 31);
    series.used.push(gap ? null : 4.1e10);
    series.lost_packets.push(gap ? null : i % 17);
  }
  return { t, step, series };
}

export function makeAudit(now, count) {
  const acts = [['login', 'ok'], ['purpose.set', 'ok'], ['playback.start', 'ok'], ['snapshot.view', 'ok'], ['denied', 'denied'], ['event.handle', 'ok'], ['lock', 'ok']];
  return Array.from({ length: count }, (_, i) => ({
    n: 10442 - i, t: iso(now - i * 95000), who: ['tran.van.b', 'le.thi.c'][i % 2], role: ['operator', 'evidence'][i % 2], act: acts[i % 7][0], site: i % 7 < 2 ? null : 'km-17', object: i % 7 === 2 ? ['file', '7be1c0ffee'] : [],
    purpose: { kind: 'case', case: '2026-0031' }, result: acts[i % 7][1], range: i % 7 === 2 ? [iso(now - i * 95000 - HOUR), iso(now - i * 95000 - HOUR + 270000)] : null,
  }));
}
