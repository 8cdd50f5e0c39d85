-- record: the flat text that `states` holds for a message that was claimed, delayed twice, finished or deleted.
--
--   <status> <attempt> <nonce> <counts> <cause> <at> <entry> <history> <payload>
--
--   status   P pending, I in progress, C complete, E error
--   attempt  ordinal of the last delivery; nonce: of the claim that made it. Together they are the receipt
--   counts   failed,lost,released,suspect; '-' for four zeros. How often a handler failed, the message took its worker
--            down or let its lease lapse (both charged), and a worker handed it back (free). For suspect see lapse.lua.
--            A message that has a priority has that as a fifth: the body's head tells it, and is not always read
--   cause    why it is not on its first delivery (failed, lost, released, deferred, redriven), or why it ended (failed, rejected,
--            lost, expired, unreadable, cancelled); '-' for none
--   at       P: when it is available. I, C, E: when the last delivery started, 0 when that is not known. Milliseconds
--   entry    P: its entry in `stream`, '-' while scheduled. I: the worker that holds it. C, and E when it was cancelled:
--            its entry in `finished`, which tells when it finished. E else: when it finished, in milliseconds
--   history  what was out of the ordinary, oldest first: event,attempt,milliseconds,who;... '-' for nothing. Behind an
--            event may stand how many in a row it counts: deferred*7. After who a failed attempt has its error,
--            |type|text, with percent signs for what would end a field
--   payload  P, E: the last error. I: the progress. C: the result. Opaque bytes, empty for none
--
-- A deleted or swept message leaves a tombstone there while the deduplication window lasts: T <nonce> <ms> <digest>

-- What is no count, or none that can be, would be written back as no number at all.
local function count_of(text)
  return math.min(tonumber(text) or 0, 1e9)
end

local function parse_record(text)
  local status, attempt, nonce, counts, cause, at, entry, history, payload =
    string.match(text, '^([PICE]) (%d+) (%S+) (%S+) (%S+) (%d+) (%S+) (%S+) (.*)$')
  if not status or #attempt > 15 or #at > 15 then return nil end -- counting on would make no number of it
  local record = {
    status = status, attempt = attempt, nonce = nonce, failed = 0, lost = 0, released = 0, suspect = 0, priority = 0,
    cause = cause, at = at, entry = entry, history = history, payload = payload,
  }
  if counts ~= '-' then
    local failed, lost, released, suspect, priority = string.match(counts, '^(%d+),(%d+),(%d+),(%d+),?(%d?)$')
    record.failed, record.lost = count_of(failed), count_of(lost)
    record.released, record.suspect, record.priority = count_of(released), count_of(suspect), count_of(priority)
  end
  return record
end

-- One expression: a table of its parts would take twice as long.
local function format_record(r)
  local counts = '-'
  if r.failed + r.lost + r.released + r.suspect + r.priority > 0 then
    counts = string.format('%d,%d,%d,%d', r.failed, r.lost, r.released, r.suspect)
    if r.priority > 0 then counts = counts .. string.format(',%d', r.priority) end
  end
  local at = string.format('%d', r.at)
  return r.status .. ' ' .. r.attempt .. ' ' .. r.nonce .. ' ' .. counts .. ' ' .. r.cause .. ' ' .. at .. ' ' .. r.entry
    .. ' ' .. r.history .. ' ' .. r.payload
end

-- Whether it is listed in `dead`: all that ended as an error, but what was cancelled.
local function is_letter(record)
  return record.status == 'E' and record.cause ~= 'cancelled'
end

-- When a finished message ended, in milliseconds; nil when its record does not tell.
local function ended_at(record)
  local at = string.match(record.entry, '^%d+')
  return at and #at <= 15 and tonumber(at) or nil
end

-- A stream's entry as a record or a body names it, nil when that is none: XDEL would fail at it half-way.
local function entry_of(text)
  local ms, sequence = string.match(text, '^(%d+)%-(%d+)$')
  return ms and #ms <= 15 and #sequence <= 15 and text or nil
end

local function new_record(now)
  return {
    status = 'P', attempt = '0', nonce = '-', failed = 0, lost = 0, released = 0, suspect = 0, priority = 0, cause = '-',
    at = now, entry = '-', history = '-', payload = '',
  }
end

-- Add to a record's history, which keeps the last 20.
local function note(record, event, now, who)
  local line = event .. ',' .. record.attempt .. ',' .. string.format('%d', now) .. ',' .. who
  if record.history == '-' then
    record.history = line
  else
    local _, more = string.gsub(record.history, ';', ';')
    local kept = more < 19 and record.history or string.gsub(record.history, '^[^;]*;', '', 1)
    record.history = kept .. ';' .. line
  end
end
