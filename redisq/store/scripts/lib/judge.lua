-- judge: what is wrong with a message in doubt. Each gives a word and how to mend it, if that is safe; nothing for what is
-- sound, or is told of those who were met elsewhere.
local function judge_record(audit, id, body, record)
  local waits, home, entry = record.status == 'P' or record.status == 'I', home_of(record)
  local there = is_at(audit, home, entry, id)
  if waits and not body then
    return 'body-missing', bring_to_an_end(audit, id, record, there and home == 'stream' and entry)
  elseif not there and record.status == 'P' then
    local due = tonumber(redis.call('ZSCORE', audit.scheduled, id) or record.at)
    return 'entry-missing', put_back(audit, id, record, due, entry)
  elseif not there then
    local words = {leases = 'lease-missing', finished = 'finished-missing', dead = 'dead-missing'}
    return words[home], list(audit, id, record)
  elseif not body and record.cause ~= 'unreadable' then
    return 'request-missing'
  end
end

local function judge_body(audit, id, body)
  local home, entry = home_of(nil, body)
  if not home then return 'body-damaged' end
  if is_at(audit, home, entry, id) then return nil end
  if redis.call('ZSCORE', audit.leases, id) or redis.call('ZSCORE', audit.dead, id) then return nil end
  local due = tonumber(redis.call('ZSCORE', audit.scheduled, id) or audit.now)
  return 'orphan', put_back(audit, id, anew(audit.now, body), due, entry)
end

local function judge_entry(audit, id, entry, body, record, buried)
  local structure, now = audit.structure, audit.now
  if not body and not record and not buried and structure ~= 'finished' and structure ~= 'dead' then
    local again = audit.ending[id] -- a second entry of a message that is ended already
    audit.ending[id] = true
    return 'body-missing', bring_to_an_end(audit, id, not again and new_record(now), entry)
  end
  if body and buried or not body and record and (record.status == 'P' or record.status == 'I') then return nil end
  if not body and not record then return structure .. '-stray', take_away(audit, id, entry) end
  local home, home_entry = home_of(record, body)
  if not home then return nil end
  if is_at(audit, home, home_entry, id) then return structure .. '-stray', take_away(audit, id, entry) end
  if record or structure == 'scheduled' or structure == 'stream' then return nil end
  if structure == 'leases' then return 'record-missing', put_back(audit, id, anew(now, body), now, home_entry) end
  if structure == 'finished' then return 'record-missing', write_record(audit, id, 'C', entry, home_entry) end
  local died_at = math.max(0, math.min(now, tonumber(redis.call('ZSCORE', audit.dead, id))))
  return 'record-missing', write_record(audit, id, 'E', string.format('%d', died_at), home_entry)
end

local function judge_tombstone(audit, id, buried, at)
  if not buried or string.format('%d', buried.at) ~= at then return nil end
  return 'tombstone-missing', function() redis.call('XADD', audit.tombstones, '*', 'id', id) end
end

local function judge_place(audit, id, at, text, body, record, buried)
  if #id ~= 16 then
    if redis.call('ZSCORE', audit.urgent, id) then return 'id-strange' end
    return nil
  end
  if text and not record and not buried then return nil end
  local home, entry, priority = nil, nil, 0
  if record then
    home, entry = home_of(record)
    priority = record.priority
  elseif body and not buried then
    home, entry = home_of(nil, body)
    priority = priority_in(body)
  end
  local belongs = home == 'stream' and priority > 0
  if at ~= '' then
    local place = entry_of(at) and place_of(at, id)
    if not place or not redis.call('ZSCORE', audit.urgent, place) or belongs and entry == at then return nil end
    return 'urgent-stray', function() redis.call('ZREM', audit.urgent, place) end
  elseif belongs and is_entry(audit.stream, entry, id) and not redis.call('ZSCORE', audit.urgent, place_of(entry, id)) then
    return 'urgent-missing', function() be_urgent(audit.urgent, entry, id, priority) end
  end
end

local function is_home(audit, at, body, record, buried)
  if buried or not (record or body) then return false end
  local home, entry = home_of(record, body)
  return home == audit.structure and entry == at
end
