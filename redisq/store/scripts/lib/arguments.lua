-- arguments: what a script was called with, checked before its first write. redisq's clients send nothing that is refused
-- here. Lua's own tonumber takes more for a number ('nan', '0x10', '1e999', ' 7'), and would store it as a strange one.
local function refuse(name)
  error('BADARG ' .. name, 0)
end

-- Of 15 digits at most, so that sums of a few are exact.
local function is_whole(text)
  return text and #text <= 15 and string.find(text, '^%d+$')
end

local function whole(text, name, least, most)
  local number = is_whole(text) and tonumber(text)
  if not number or least and number < least or most and number > most then refuse(name) end
  return number
end

-- Names of workers and the like stand in records, between spaces, and in histories, between commas and semicolons.
local function check_name(text, name)
  if not text or not string.find(text, '^[!-+.-:<-~-]+$') then refuse(name) end
end

-- What a failed attempt has said, as store/record.py writes it: it stands in a history, after a name.
local function check_told(text, name)
  if not text or #text > 2048 or not string.find(text, '^[!-+.-:<-~\128-\255-]*$') then refuse(name) end
end

-- The arguments from `first` on are items of `size` arguments each: at least one, or `least`, and 500 at most.
local function check_items(first, size, least)
  local count = (#ARGV - first + 1) / size
  if count % 1 ~= 0 or count < (least or 1) or count > 500 then refuse('items') end
end
