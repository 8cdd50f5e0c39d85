-- deliver: what becomes of each candidate of a claim: delivered now, ended, or moved to the stream until a slot is free.
-- Nothing is written here. `displaced` are ids that have no place among the urgent ones any more.
local function dies(claim, i, record, cause)
  record.status, record.cause = 'E', cause
  if cause ~= 'expired' then record.payload = '' end -- else the error of its last attempt tells more
  if claim.sources[i] ~= 'lapsed' then record.at = 0 end -- it waited: when its last delivery began is not known any more
  claim.ended[#claim.ended + 1], claim.displaced[claim.ids[i]] = {claim.ids[i], record}, true
  if claim.taken_from[i] then claim.taken[#claim.taken + 1] = claim.taken_from[i] end
end

local function begin_work(claim, record, source)
  record.status, record.attempt, record.nonce = 'I', string.format('%d', record.attempt + 1), claim.nonce
  if source == 'lapsed' then
    note(record, 'reclaimed', claim.now, claim.worker)
  else
    record.suspect = math.min(record.suspect, 1)
  end
  record.at, record.entry, record.payload = claim.now, claim.worker, ''
  return format_record(record)
end

local function hand_out(claim, i, ordinal, text)
  local n, id, entry, reply = claim.handed + 1, claim.ids[i], claim.taken_from[i], claim.reply
  local deadlines, records = claim.deadlines, claim.records
  claim.handed, claim.delivered[n], claim.displaced[id] = n, id, true
  deadlines[2 * n - 1], deadlines[2 * n], records[2 * n - 1], records[2 * n] = claim.lapses, id, id, text
  reply[3 * n + 4], reply[3 * n + 5], reply[3 * n + 6] = id, ordinal, claim.bodies[i]
  if entry then claim.taken[#claim.taken + 1] = entry end
end

-- What is ready by `urgent` alone may have been taken from the stream.
local function is_astray(claim, i, record)
  if claim.sources[i] ~= 'urgent' then return false end
  local home, entry = home_of(record, claim.bodies[i] or '')
  return not (home == 'stream' and entry == claim.taken_from[i])
end

local function judge_candidate(claim, i, record, expired)
  local body, source, now, has_slot = claim.bodies[i], claim.sources[i], claim.now, claim.handed < claim.count
  local suspect, charge, guilty = 0, 0, false
  if source == 'lapsed' then suspect, charge, guilty = lapse(record, claim.max_lost) end
  local fits = suspect == 0 or (has_slot and (suspect == 1 and claim.room >= 1 or suspect == 2 and claim.alone))
  local cancelled = is_cancelled(record)
  if source == 'lapsed' and (fits or guilty or expired or cancelled or not body) then
    note(record, 'lost', now, record.entry)
    record.suspect, record.lost, record.cause, record.payload = suspect, charge, 'lost', ''
    claim.lost = claim.lost + 1
  end
  if not body then
    note(record, 'unreadable', now, claim.worker)
    dies(claim, i, record, 'unreadable')
    claim.unreadable = claim.unreadable + 1
  elseif cancelled then
    dies(claim, i, record, 'cancelled')
    claim.cancelled = claim.cancelled + 1
  elseif guilty then
    dies(claim, i, record, 'lost')
  elseif expired then
    note(record, 'expired', now, claim.worker)
    dies(claim, i, record, 'expired')
  elseif not fits then
    if has_slot then claim.left = claim.left + 1 end
  elseif has_slot then
    local text = begin_work(claim, record, source)
    hand_out(claim, i, ordinal_of(record), text)
    if suspect > 0 then
      claim.reply[3], claim.reply[4] = claim.reply[3] + 1, suspect - 1
      claim.room, claim.alone = suspect == 2 and 0 or claim.room - 1, false
    end
  elseif source == 'due' then
    record.status, record.at = 'P', now
    claim.moved[#claim.moved + 1], claim.displaced[claim.ids[i]] = {id = claim.ids[i], record = record}, true
  end
end

-- Of those that were `met`, in this order, or as they came.
local function decide(claim, order, met)
  local ids, bodies, texts, sources, now = claim.ids, claim.bodies, claim.texts, claim.sources, claim.now
  local fresh -- the record of a message that is delivered for the first time: it is the same for all of this claim
  for n = 1, met do
    local i = order and order[n] or n
    local expires, priority = string.match(bodies[i] or '', '^[%d-]+;(%d+);?(%d?) ')
    local expired = expires and expires ~= '0' and tonumber(expires) <= now
    if bodies[i] and not texts[i] and sources[i] == 'ready' and not expired and (not priority or priority == '') then
      if claim.handed < claim.count then
        fresh = fresh or begin_work(claim, new_record(now), 'ready')
        hand_out(claim, i, '1', fresh)
      end
    elseif is_astray(claim, i, texts[i] and parse_record(texts[i])) then
      claim.displaced[ids[i]] = true
    else
      local record = texts[i] and parse_record(texts[i]) or new_record(now)
      record.priority = tonumber(priority) or 0
      judge_candidate(claim, i, record, expired)
    end
  end
end
