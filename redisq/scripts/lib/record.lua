-- record: the flat text that `states` holds for a message that was claimed, delayed twice, finished or deleted.
--
--   <status> <attempt> <nonce> <failed> <lost> <released> <cause> <at> <entry> <payload>
--
--   status   P pending, I in progress, C complete, E error
--   attempt  ordinal of the last delivery; nonce: of the claim that made it. Together they are the receipt
--   failed, lost, released   how often a handler failed, a lease lapsed, a worker handed the message back
--   cause    why it is not on its first delivery (failed, lost, released), or why it ended (failed, rejected, lost,
--            unreadable); '-' for none
--   at       P: when it is available. I, C, E: when the last delivery started. Milliseconds
--   entry    P: its entry in `stream`, '-' while scheduled. I: '-'. C, E: its entry in `finished`, so when it finished
--   payload  P, E: the last error. I: the progress. C: the result. Opaque bytes, empty for none
--
-- A deleted or swept message leaves a tombstone there while the deduplication window lasts: T <nonce> <ms> <digest>
local function parse_record(text)
  local status, attempt, nonce, failed, lost, released, cause, at, entry, payload =
    string.match(text, '^([PICE]) (%d+) (%S+) (%d+) (%d+) (%d+) (%S+) (%d+) (%S+) (.*)$')
  if not status then return nil end
  return {
    status = status, attempt = attempt, nonce = nonce, failed = tonumber(failed), lost = tonumber(lost),
    released = tonumber(released), cause = cause, at = at, entry = entry, payload = payload,
  }
end

local function format_record(r)
  return table.concat({
    r.status, r.attempt, r.nonce, r.failed, r.lost, r.released, r.cause, string.format('%d', r.at), r.entry, r.payload,
  }, ' ')
end
